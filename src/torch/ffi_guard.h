// Keeps exceptions from crossing into Rust: returns null on success, otherwise the error's text,
// which the caller frees with `free`.
#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

namespace turret {

template <typename Body>
char* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

}  // namespace turret
