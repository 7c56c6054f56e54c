// The command `muse`.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

#include "commands.h"
#include "help.h"
#include "interrupt.h"
#include "muse/check.h"
#include "version.h"

namespace muse::tools {
namespace {

constexpr int kDefectStatus = 70;  // as sysexits.h has it: an error of the program itself

int complain(const char* message, int status) {
  std::fprintf(stderr, "muse: %s\n", message);
  return status;
}

void add_version(CLI::App& app) {
  app.set_version_flag("--version", [] {
    std::string text = version_text();
    text.pop_back();  // CLI11 ends the line itself
    return text;
  });
  app.get_option("--version")->description("print version, commit, compiler and libraries, and exit");
}

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

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitStatus::wrong_use);
  }
  return 0;
}

// Turns every exception into a message and an exit status.
int run(int argc, char** argv) {
  try {
    return run_command(argc, argv);
  } catch (const Error& error) {
    return complain(error.what(), static_cast<int>(error.status()));
  } catch (const Cancelled&) {
    return complain("interrupted; nothing was written", kInterruptedStatus);
  } catch (const std::bad_alloc&) {
    return complain("not enough memory for this; try fewer --tokens or --heads",
                    static_cast<int>(ExitStatus::file_problem));
  } catch (const std::system_error& error) {
    return complain(error.what(), static_cast<int>(ExitStatus::file_problem));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muse: unexpected, a defect of muse: %s\n", error.what());
    return kDefectStatus;
  }
}

}  // namespace
}  // namespace muse::tools

int main(int argc, char** argv) {
  muse::tools::catch_interrupts();
  return muse::tools::run(argc, argv);
}
