// The program with a window: its main loop.
#pragma once

#include "app/command_line.h"

namespace muse::viewer {

/// Opens the window and returns the exit status once it is closed, or once the screenshot that the command
/// line asks for is written. Throws Error for what a person has to put right first.
[[nodiscard]] int run_viewer(const CommandLine& line);

}  // namespace muse::viewer
