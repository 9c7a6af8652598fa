// CUDA graphs and streams of libtorch, which tch does not offer.
//
// A shared object of its own, because it needs libtorch_cuda.so: the program carries it and opens it after that library, on
// machines that have one.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>

#include "../ffi_guard.h"

using turret::guarded;

// Must match graphs.rs.
extern "C" {

// One of libtorch's pool of streams on this device, for `turret_stream_free` to forget.
char* turret_stream_new(int8_t device, c10::cuda::CUDAStream** stream) {
  return guarded([&] { *stream = new c10::cuda::CUDAStream(c10::cuda::getStreamFromPool(false, device)); });
}

// What this thread computes from now on, it computes on that stream and its device.
char* turret_stream_enter(const c10::cuda::CUDAStream* stream) {
  return guarded([&] {
    c10::cuda::set_device(stream->device_index());
    c10::cuda::setCurrentCUDAStream(*stream);
  });
}

// Waits until everything that was begun on the stream is done.
char* turret_stream_wait(const c10::cuda::CUDAStream* stream) {
  return guarded([&] { stream->synchronize(); });
}

void turret_stream_free(c10::cuda::CUDAStream* stream) { delete stream; }

// Begins to record what this thread starts on its current stream, which must not be the default one. The memory that is
// asked for meanwhile belongs to the graph. Other threads may go on using the device.
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

// Starts what was recorded, on the current stream.
char* turret_graph_replay(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->replay(); });
}

void turret_graph_free(at::cuda::CUDAGraph* graph) { delete graph; }
}
