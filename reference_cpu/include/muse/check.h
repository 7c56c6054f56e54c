// Errors and checks: what every part of the project throws, and the exit status each one means.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace muse {

/// Exit status of every command of the project.
enum class ExitStatus { done = 0, wrong_use = 1, file_problem = 2, misfit = 3 };

/// Base of the errors that a person can act on. The message says what was expected, what was found, what to
/// do.
class Error : public std::runtime_error {
 public:
  Error(ExitStatus status, const std::string& message) : std::runtime_error(message), status_(status) {}
  [[nodiscard]] ExitStatus status() const noexcept { return status_; }

 private:
  ExitStatus status_;
};

/// An option or argument that makes no sense (exit status 1).
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(ExitStatus::wrong_use, message) {}
};

/// A file that is missing, truncated, malformed or not finite (exit status 2).
class FileError : public Error {
 public:
  explicit FileError(const std::string& message) : Error(ExitStatus::file_problem, message) {}
};

/// Shapes or versions that do not fit together (exit status 3).
class MisfitError : public Error {
 public:
  explicit MisfitError(const std::string& message) : Error(ExitStatus::misfit, message) {}
};

/// Thrown out of a computation whose Progress was cancelled.
class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("cancelled") {}
};

namespace detail {
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}
}  // namespace detail

}  // namespace muse

/// Throws `muse::MisfitError` unless `condition` holds; the other arguments are streamed into the message.
#define MUSE_REQUIRE(condition, ...)                                                  \
  do {                                                                                \
    if (!(condition)) throw ::muse::MisfitError(::muse::detail::concat(__VA_ARGS__)); \
  } while (false)

/// As MUSE_REQUIRE(a == b, …), and prints both values.
#define MUSE_REQUIRE_EQ(a, b, ...)                                                                  \
  do {                                                                                              \
    const auto muse_a_ = (a);                                                                       \
    const auto muse_b_ = (b);                                                                       \
    if (!(muse_a_ == muse_b_))                                                                      \
      throw ::muse::MisfitError(                                                                    \
          ::muse::detail::concat(__VA_ARGS__, ": " #a " = ", muse_a_, ", but " #b " = ", muse_b_)); \
  } while (false)
