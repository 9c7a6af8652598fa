# syntax=docker/dockerfile:1

# The toolchain of this image builds: .dockerignore excludes rust-toolchain.toml, so that rustup
# downloads no other.
FROM rust:1.95-bookworm AS builder
RUN apt-get update && apt-get install -y --no-install-recommends libjpeg-dev python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /turret
COPY . .
# The small CPU set; for the GPU image: `--build-arg LIBTORCH_SET=full`.
ARG LIBTORCH_SET=cpu
RUN make libtorch LIBTORCH_SET="$LIBTORCH_SET"
RUN cargo build --release --locked --bins
# The libraries that the binaries load. libtorch finds NVIDIA's in ../../nvidia relative to
# torch/lib; the binaries find libtorch in ../lib/torch/lib relative to their own folder. Keep both.
RUN packages="$(dirname "$(realpath .libtorch/current)")" \
    && install -D -t /runtime/bin target/release/turret target/release/fine-tune \
    && mkdir -p /runtime/lib/torch \
    && cp -r "$packages/torch/lib" /runtime/lib/torch/lib \
    && cp -r "$packages/nvidia" /runtime/lib/nvidia \
    && rm -rf /runtime/lib/nvidia/*/include /runtime/lib/torch/lib/libtorch_python.so \
    && if [ "$LIBTORCH_SET" = cpu ]; then rm -f /runtime/lib/torch/lib/lib*cuda*.so; fi

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libjpeg62-turbo && rm -rf /var/lib/apt/lists/*
COPY --from=builder /runtime/ /usr/local/
# A numeric ID, so that Kubernetes can verify that it is not root.
USER 10001:10001
EXPOSE 50051 9090
ENTRYPOINT ["turret"]
