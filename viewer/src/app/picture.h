// One picture of the window: it asks for what a view shows, then for its pixels, both on other threads, and
// keeps the last of each until newer ones come.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/background.h"
#include "gl/texture.h"
#include "views/view.h"

namespace muse::viewer {

/// What a picture is to show: where to compute it, and how.
struct PictureRequest {
  const View* view = nullptr;
  std::shared_ptr<Analysis> analysis;
  std::uint64_t opened = 0;  ///< the dump's number: another one is another content
  ViewState state;
  render::FigureOptions options;
};

/// Pixels with all that is needed to point at things in them.
struct Shot {
  const View* view = nullptr;
  std::shared_ptr<const ViewContent> content;
  std::string key;  ///< of the content; empty: an outline
  std::uint64_t opened = 0;
  std::vector<Slot> slots;
  ViewSettings view_settings;
  Selection selection;  ///< as drawn
  render::FigureOptions options;
  render::Drawn drawn;
  double draw_ms = 0;  ///< time that drawing took
};

class Picture {
 public:
  /// `channel`: a name of its own for the workers.
  Picture(Background& background, std::string channel);
  ~Picture();
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;

  /// Call once a frame: asks for whatever is missing. `sibling`: a picture that may have the content already.
  void update(const PictureRequest& request, Picture* sibling = nullptr);
  /// Computes again what failed or was cancelled.
  void retry();
  void note_cancelled();

  /// The latest pixels, or null. They may be of an earlier request.
  [[nodiscard]] const Shot* shot() const { return shot_ ? &*shot_ : nullptr; }
  [[nodiscard]] Texture& texture() { return texture_; }
  /// Whether the pixels show exactly what was requested last.
  [[nodiscard]] bool is_current() const;
  /// Whether the pixels are the outline of what is being computed.
  [[nodiscard]] bool is_outline() const { return shot_ && shot_->key.empty(); }
  /// Whether a computation of the content is waiting or running.
  [[nodiscard]] bool is_computing() const { return !computing_key_.empty(); }
  /// How long it has been computing without a result.
  [[nodiscard]] double seconds_computing() const;
  [[nodiscard]] bool was_cancelled() const { return cancelled_ && !failure().empty(); }
  /// Why the content of the last request cannot be shown; empty: it can, or is not known yet.
  [[nodiscard]] const std::string& failure() const;
  [[nodiscard]] const std::string& channel() const { return channel_; }
  /// Frames of the picture when nothing was zoomed, as far as they were seen: how far zooming out goes.
  [[nodiscard]] const std::optional<Zoom>& whole() const { return whole_; }

 private:
  struct Ready {
    std::string key;
    std::shared_ptr<const ViewContent> content;
  };
  // Shared with jobs that may outlive this picture.
  struct Link {
    Picture* picture = nullptr;
  };

  void compute(const PictureRequest& request, const std::string& key);
  void draw(const PictureRequest& request, const std::string& key,
            std::shared_ptr<const ViewContent> content);
  void draw_outline(const PictureRequest& request);
  void keep(const std::string& key, std::shared_ptr<const ViewContent> content);
  [[nodiscard]] std::shared_ptr<const ViewContent> ready(const std::string& key);
  void take(Shot shot);

  Background& background_;
  std::string channel_;
  std::shared_ptr<Link> link_;

  std::uint64_t opened_ = 0;
  std::string wanted_key_;         // of the last request
  std::string computing_key_;      // asked of a worker, without answer yet
  std::string computing_settled_;  // the same without what is hovered
  std::string computing_view_;
  std::string failed_key_, failure_;
  bool cancelled_ = false;
  std::chrono::steady_clock::time_point computing_since_;
  std::list<Ready> ready_;  // the latest first

  bool drawing_ = false;
  std::optional<Selection> drawn_selection_;  // last asked for
  std::shared_ptr<const ViewContent> drawn_content_;
  std::optional<render::FigureOptions> drawn_options_;

  std::optional<Shot> shot_;
  std::optional<Zoom> whole_;
  std::string whole_of_;  // what `whole_` belongs to
  Texture texture_;
};

}  // namespace muse::viewer
