// What the project's programs have in common around their work: version, messages, exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

namespace muse::tools {

/// The option --version.
void add_version(CLI::App& app);

/// Parses the line; callbacks of sub-commands do their work. The exit status, if the program ends with that:
/// help or the version was asked for, or the line is wrong.
[[nodiscard]] std::optional<int> parse_line(CLI::App& app, int argc, char** argv);

/// Runs `work` and turns every exception into a message on stderr, "NAME: …", and an exit status.
/// `if_memory_is_short`: what to try then, such as "try fewer --tokens".
[[nodiscard]] int run_program(const char* name, const char* if_memory_is_short,
                              const std::function<int()>& work);

}  // namespace muse::tools
