// CUDA graphs and streams of libtorch, which tch does not offer.
//
// A shared object of its own, because it needs libtorch_cuda.so: the program embeds it and opens it
// after that library, on machines that have one.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>

#include "../ffi_guard.h"

using turret::guarded;

// Must match graphs.rs.
extern "C" {

// Takes a stream from libtorch's pool for this device; `turret_stream_free` frees the handle.
char* turret_stream_new(int8_t device, c10::cuda::CUDAStream** stream) {
  return guarded([&] { *stream = new c10::cuda::CUDAStream(c10::cuda::getStreamFromPool(false, device)); });
}

// Makes the stream and its device current for this thread.
char* turret_stream_enter(const c10::cuda::CUDAStream* stream) {
  return guarded([&] {
    c10::cuda::set_device(stream->device_index());
    c10::cuda::setCurrentCUDAStream(*stream);
  });
}

// Waits until all work started on the stream is done.
char* turret_stream_wait(const c10::cuda::CUDAStream* stream) {
  return guarded([&] { stream->synchronize(); });
}

void turret_stream_free(c10::cuda::CUDAStream* stream) { delete stream; }

// Starts recording what this thread launches on its current stream, which must not be the default
// one. Memory allocated meanwhile belongs to the graph. Other threads may keep using the device.
char* turret_graph_begin(at::cuda::CUDAGraph** graph) {
  return guarded([&] {
    auto* recording = new at::cuda::CUDAGraph();
    try {
      recording->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      delete recording;
      throw;
    }
    *graph = recording;
  });
}

char* turret_graph_end(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->capture_end(); });
}

// Launches the recorded work on the current stream.
char* turret_graph_replay(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->replay(); });
}

void turret_graph_free(at::cuda::CUDAGraph* graph) { delete graph; }
}
