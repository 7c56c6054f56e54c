// How help looks: lines of at most 100 columns, each option with its type, unit and default.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace muse::tools {

/// Gives `app`, and the sub-commands added to it later, the project's help.
void use_project_help(CLI::App& app);

/// The text beside an option: "HELP [UNIT; default DEFAULT]"; an empty unit or default is left
/// out.
[[nodiscard]] std::string described(const std::string& help, const std::string& unit,
                                    const std::string& default_value);

/// A check that leaves the option's type in help as it is.
[[nodiscard]] CLI::Validator unnamed(const CLI::Validator& check);

/// A sub-command with a paragraph on what it does and an example of its use.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& paragraph,
                      const std::string& example);

/// The option --json FILE|-, which most commands have.
CLI::Option* add_json_option(CLI::App& command, std::string& destination);

}  // namespace muse::tools
