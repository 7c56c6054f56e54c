// The command `muse`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <new>
#include <system_error>

#include "commands.h"
#include "help.h"
#include "interrupt.h"
#include "muse/check.h"
#include "output.h"
#include "version.h"

namespace muse::tools {
namespace {

constexpr int kDefectStatus = 70;  // as sysexits.h has it: an error of the program itself

int complain(const std::string& message, ExitStatus status) {
  fmt::print(stderr, "muse: {}\n", message);
  return static_cast<int>(status);
}

void add_version(CLI::App& app) {
  app.set_version_flag("--version", [] {
    std::string text = version_text();
    text.pop_back();  // CLI11 ends the line itself
    return text;
  });
  app.get_option("--version")->description("print version, commit, compiler and libraries, and exit");
}

int run(int argc, char** argv) {
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
    // Each sub-command's callback does its work as soon as the line is parsed.
    app.parse(argc, argv);
    print("");
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitStatus::wrong_use);
  } catch (const Error& error) {
    return complain(error.what(), error.status());
  } catch (const Cancelled&) {
    fmt::print(stderr, "muse: interrupted; nothing was written\n");
    return kInterruptedStatus;
  } catch (const std::bad_alloc&) {
    return complain("not enough memory for this; try fewer --tokens or --heads", ExitStatus::file_problem);
  } catch (const std::system_error& error) {
    return complain(error.what(), ExitStatus::file_problem);
  } catch (const std::exception& error) {
    fmt::print(stderr, "muse: unexpected: {}; this is a defect of muse, please report it\n", error.what());
    return kDefectStatus;
  }
}

}  // namespace
}  // namespace muse::tools

int main(int argc, char** argv) {
  muse::tools::catch_interrupts();
  return muse::tools::run(argc, argv);
}
