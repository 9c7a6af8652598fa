// Operators of libtorch that neither tch nor torch's C++ API offers: oneDNN's fused and quantised
// convolutions.
//
// They are called by name and boxed, which checks every argument against the operator's schema.

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "../ffi_guard.h"

using turret::guarded;

namespace {

using Stack = std::vector<c10::IValue>;

c10::OperatorHandle find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
}

at::Tensor call(const c10::OperatorHandle& op, Stack stack) {
  op.callBoxed(stack);
  return stack.at(0).toTensor();
}

c10::List<int64_t> both(int64_t value) { return c10::List<int64_t>({value, value}); }

c10::List<std::optional<at::Scalar>> no_scalars() { return c10::List<std::optional<at::Scalar>>(); }

}  // namespace

// Must match `Geometry` and `Quantised` in dispatcher.rs.
extern "C" {

struct TurretGeometry {
  int64_t stride;
  int64_t padding;
};

struct TurretQuantised {
  double input_scale;
  int64_t input_zero_point;
  double output_scale;
  int64_t output_zero_point;
  double other_scale;
  int64_t other_zero_point;
};

// Returns whether this libtorch has every operator below.
bool turret_has_fused_convolutions() {
  auto& dispatcher = c10::Dispatcher::singleton();
  return dispatcher.findSchema({"mkldnn::_convolution_pointwise", ""}).has_value() &&
      dispatcher.findSchema({"mkldnn::_convolution_pointwise_", "binary"}).has_value() &&
      dispatcher.findSchema({"onednn::qconv_prepack", ""}).has_value() &&
      dispatcher.findSchema({"onednn::qconv2d_pointwise", ""}).has_value() &&
      dispatcher.findSchema({"onednn::qconv2d_pointwise", "binary"}).has_value();
}

// relu?(conv(input) + bias)
char* turret_convolution(
    const at::Tensor* input, const at::Tensor* weight, const at::Tensor* bias, TurretGeometry geometry, bool relu,
    at::Tensor** output) {
  return guarded([&] {
    static const auto op = find("mkldnn::_convolution_pointwise", "");
    *output = new at::Tensor(
        call(op, {*input, *weight, *bias, both(geometry.padding), both(geometry.stride), both(1), int64_t{1},
                  relu ? "relu" : "none", no_scalars(), ""}));
  });
}

// relu(conv(input) + bias + other), written over `other`
char* turret_convolution_add_relu(
    const at::Tensor* input, const at::Tensor* other, const at::Tensor* weight, const at::Tensor* bias,
    TurretGeometry geometry, at::Tensor** output) {
  return guarded([&] {
    static const auto op = find("mkldnn::_convolution_pointwise_", "binary");
    *output = new at::Tensor(
        call(op, {*other, *input, *weight, *bias, both(geometry.padding), both(geometry.stride), both(1), int64_t{1},
                  "add", at::Scalar(1.0), "relu", no_scalars(), ""}));
  });
}

// Packs an int8 weight with one scale per channel into oneDNN's layout for this input shape.
char* turret_quantised_pack(
    const at::Tensor* weight, const at::Tensor* scales, TurretQuantised quantised, TurretGeometry geometry,
    const int64_t* input_shape, at::Tensor** output) {
  return guarded([&] {
    static const auto op = find("onednn::qconv_prepack", "");
    c10::List<int64_t> shape;
    for (int side = 0; side < 4; ++side) shape.push_back(input_shape[side]);
    *output = new at::Tensor(
        call(op, {*weight, *scales, quantised.input_scale, quantised.input_zero_point, both(geometry.stride),
                  both(geometry.padding), both(1), int64_t{1}, shape}));
  });
}

// relu?(conv(input) + bias), uint8 to uint8
char* turret_quantised_convolution(
    const at::Tensor* input, const at::Tensor* weight, const at::Tensor* scales, const at::Tensor* zero_points,
    const at::Tensor* bias, TurretQuantised quantised, TurretGeometry geometry, bool relu, at::Tensor** output) {
  return guarded([&] {
    static const auto op = find("onednn::qconv2d_pointwise", "");
    *output = new at::Tensor(call(
        op, {*input, quantised.input_scale, quantised.input_zero_point, *weight, *scales, *zero_points, *bias,
             both(geometry.stride), both(geometry.padding), both(1), int64_t{1}, quantised.output_scale,
             quantised.output_zero_point, at::kByte, relu ? "relu" : "none", no_scalars(), ""}));
  });
}

// relu(conv(input) + bias + other), uint8 to uint8, written over `other`
char* turret_quantised_convolution_add_relu(
    const at::Tensor* input, const at::Tensor* other, const at::Tensor* weight, const at::Tensor* scales,
    const at::Tensor* zero_points, const at::Tensor* bias, TurretQuantised quantised, TurretGeometry geometry,
    at::Tensor** output) {
  return guarded([&] {
    static const auto op = find("onednn::qconv2d_pointwise", "binary");
    *output = new at::Tensor(call(
        op, {*input, quantised.input_scale, quantised.input_zero_point, *weight, *scales, *zero_points, *other, *bias,
             both(geometry.stride), both(geometry.padding), both(1), int64_t{1}, quantised.output_scale,
             quantised.output_zero_point, at::kByte, quantised.other_scale, quantised.other_zero_point, "sum",
             at::Scalar(1.0), "relu", no_scalars(), ""}));
  });
}
}
