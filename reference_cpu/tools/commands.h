// The sub-commands: each adds itself to the command line and says what running it means.
#pragma once

#include <CLI/CLI.hpp>

namespace muse::tools {

void add_info_command(CLI::App& app);
void add_synth_command(CLI::App& app);
void add_run_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_explain_command(CLI::App& app);
void add_blocks_command(CLI::App& app);
void add_tune_command(CLI::App& app);

}  // namespace muse::tools
