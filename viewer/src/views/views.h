// The views, one file each.
#pragma once

#include "views/view.h"

namespace muse::viewer {

[[nodiscard]] const View& clusters_view();
[[nodiscard]] const View& attention_view();
[[nodiscard]] const View& error_view();
[[nodiscard]] const View& blocks_view();
[[nodiscard]] const View& profile_view();
[[nodiscard]] const View& histogram_view();
[[nodiscard]] const View& tradeoff_view();
[[nodiscard]] const View& inspector_view();
[[nodiscard]] const View& kmeans_view();

}  // namespace muse::viewer
