// An exception never crosses into Rust: it comes back as text that the caller frees with `free`; nothing is a success.
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
    return strdup("an exception of unknown type");
  }
}

}  // namespace turret
