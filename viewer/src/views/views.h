// The views, one file each.
#pragma once

#include "views/view.h"

namespace muse::viewer {

[[nodiscard]] const View& error_view();

}  // namespace muse::viewer
