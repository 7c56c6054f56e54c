// The command `muse`.
#include <CLI/CLI.hpp>

#include "commands.h"
#include "help.h"
#include "interrupt.h"
#include "program.h"

namespace muse::tools {
namespace {

// Parses the line; the callback of its sub-command does the work.
int run_command(int argc, char** argv) {
  CLI::App app(
      "Multipole Semantic Attention on dumped queries, keys and values: runs it, measures it against exact "
      "attention, "
      "and explains it.",
      "muse");
  use_project_help(app);
  add_version(app);
  app.require_subcommand(1);
  app.footer(
      "'muse COMMAND --help' describes a command and its options.\n"
      "Exit status: 0 done, 1 wrong use, 2 file problem, 3 shapes or versions that do not fit, 130 "
      "interrupted.");

  add_info_command(app);
  add_synth_command(app);
  add_run_command(app);
  add_compare_command(app);
  add_explain_command(app);
  add_blocks_command(app);
  add_tune_command(app);

  return parse_line(app, argc, argv).value_or(0);
}

}  // namespace
}  // namespace muse::tools

int main(int argc, char** argv) {
  muse::tools::catch_interrupts();
  return muse::tools::run_program("muse", "try fewer --tokens or --heads",
                                  [&] { return muse::tools::run_command(argc, argv); });
}
