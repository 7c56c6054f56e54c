#include "app/picture.h"

#include <utility>

#include "muse/check.h"

namespace muse::viewer {
namespace {

constexpr std::size_t kKeptContents = 6;  // flipping between slots and stepping back are instant

std::string key_of(const PictureRequest& request) {
  return std::to_string(request.opened) + "|" + content_key(*request.view, request.state);
}

// The key if nothing were hovered.
std::string settled_key_of(const PictureRequest& request) {
  ViewState state = request.state;
  state.selection.hovered = {};
  return std::to_string(request.opened) + "|" + content_key(*request.view, state);
}

// What the axes of the whole picture depend on.
std::string subject_key_of(const Shot& shot) {
  return std::string(shot.view->name()) + "|" + get_view_option(shot.view_settings, "per") + "|" +
         get_view_option(shot.view_settings, "scale");
}

}  // namespace

Picture::Picture(Background& background, std::string channel)
    : background_(background), channel_(std::move(channel)), link_(std::make_shared<Link>()) {
  link_->picture = this;
}

Picture::~Picture() {
  link_->picture = nullptr;
  background_.views.cancel(channel_);
  background_.sweeps.cancel(channel_);
  background_.painter.cancel(channel_);
}

void Picture::update(const PictureRequest& request, Picture* sibling) {
  // An earlier dump is let go.
  if (opened_ != request.opened) ready_.clear();
  opened_ = request.opened;
  wanted_key_ = key_of(request);
  if (sibling != nullptr && !ready(wanted_key_))
    if (auto content = sibling->ready(wanted_key_)) keep(wanted_key_, std::move(content));
  if (auto content = ready(wanted_key_)) {
    // A computation of something else is not wanted any more.
    if (!computing_key_.empty() && computing_key_ != wanted_key_) {
      background_.for_view(computing_view_).cancel(channel_);
      computing_key_.clear();
    }
    const bool drawn = drawn_content_ == content && drawn_selection_ == request.state.selection &&
                       drawn_options_ && *drawn_options_ == request.options;
    // One drawing at a time: what the pointer passes over while one is drawn is skipped.
    if (!drawn && !drawing_) draw(request, wanted_key_, content);
    return;
  }
  draw_outline(request);
  if (failed_key_ == wanted_key_) return;
  if (computing_key_ == wanted_key_) return;
  // Where only the pointer moved, what is computed is finished first: it is shown while the next one comes.
  if (!computing_key_.empty() && computing_settled_ == settled_key_of(request)) return;
  compute(request, wanted_key_);
}

void Picture::retry() {
  failed_key_.clear();
  cancelled_ = false;
}

void Picture::note_cancelled() {
  if (computing_key_.empty()) return;
  failed_key_ = wanted_key_;
  failure_ = "The computation was cancelled.";
  cancelled_ = true;
  computing_key_.clear();
}

double Picture::seconds_computing() const {
  if (computing_key_.empty()) return 0;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - computing_since_).count();
}

const std::string& Picture::failure() const {
  static const std::string none;
  return failed_key_ == wanted_key_ ? failure_ : none;
}

bool Picture::is_current() const {
  return shot_ && shot_->key == wanted_key_ && !drawing_ && computing_key_.empty() && drawn_selection_ &&
         shot_->selection == *drawn_selection_ && drawn_options_ && shot_->options == *drawn_options_;
}

std::shared_ptr<const ViewContent> Picture::ready(const std::string& key) {
  for (auto entry = ready_.begin(); entry != ready_.end(); ++entry)
    if (entry->key == key) {
      ready_.splice(ready_.begin(), ready_, entry);
      return entry->content;
    }
  return nullptr;
}

void Picture::keep(const std::string& key, std::shared_ptr<const ViewContent> content) {
  ready_.push_front({key, std::move(content)});
  if (ready_.size() > kKeptContents) ready_.pop_back();
}

void Picture::compute(const PictureRequest& request, const std::string& key) {
  // A view that computes elsewhere than the one before it leaves nothing running there.
  if (computing_key_.empty())
    computing_since_ = std::chrono::steady_clock::now();
  else
    background_.for_view(computing_view_).cancel(channel_);
  computing_key_ = key;
  computing_settled_ = settled_key_of(request);
  computing_view_ = request.view->name();
  cancelled_ = false;
  const auto link = link_;
  Inbox& inbox = background_.inbox;
  background_.for_view(computing_view_)
      .request(
          channel_,
          [request, key, link, &inbox](Task& task) {
            auto content = request.view->prepare(*request.analysis, request.state, task);
            inbox.post([key, link, content] {
              Picture* self = link->picture;
              if (self == nullptr) return;
              self->keep(key, content);
              if (self->computing_key_ == key) self->computing_key_.clear();
            });
          },
          [key, link, &inbox](const std::string& message) {
            inbox.post([key, link, message] {
              Picture* self = link->picture;
              if (self == nullptr || self->computing_key_ != key) return;
              self->failed_key_ = key;
              self->failure_ = message;
              self->computing_key_.clear();
            });
          });
}

// Until the first picture of a dump is there, its outline is shown.
void Picture::draw_outline(const PictureRequest& request) {
  const bool none = !shot_ || shot_->opened != request.opened || shot_->view != request.view || is_outline();
  if (!none || drawing_) return;
  const bool drawn = is_outline() && shot_->opened == request.opened && shot_->view == request.view &&
                     shot_->slots == request.state.slots && shot_->view_settings == request.state.view &&
                     shot_->selection == request.state.selection && shot_->options == request.options;
  if (drawn) return;
  try {
    if (auto content = request.view->outline(request.analysis->shared_session(), request.state))
      draw(request, "", std::move(content));
  } catch (const Error&) {
    // Settings that do not fit the dump: the computation says so.
  }
}

void Picture::draw(const PictureRequest& request, const std::string& key,
                   std::shared_ptr<const ViewContent> content) {
  drawing_ = true;
  drawn_content_ = content;
  drawn_selection_ = request.state.selection;
  drawn_options_ = request.options;
  Shot shot{.view = request.view,
            .content = std::move(content),
            .key = key,
            .opened = request.opened,
            .slots = request.state.slots,
            .view_settings = request.state.view,
            .selection = request.state.selection,
            .options = request.options};
  const auto link = link_;
  Inbox& inbox = background_.inbox;
  background_.painter.request(
      channel_,
      [shot = std::move(shot), link, &inbox](Task&) {
        auto done = std::make_shared<Shot>(shot);
        const auto start = std::chrono::steady_clock::now();
        done->drawn = done->content->draw(done->options, done->selection);
        done->draw_ms =
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        inbox.post([done, link] {
          if (Picture* self = link->picture) self->take(std::move(*done));
        });
      },
      [link, &inbox](const std::string& message) {
        inbox.post([link, message] {
          Picture* self = link->picture;
          if (self == nullptr) return;
          self->drawing_ = false;
          self->failed_key_ = self->wanted_key_;
          self->failure_ = message;
        });
      });
}

void Picture::take(Shot shot) {
  drawing_ = false;
  shot_ = std::move(shot);
  texture_.upload(shot_->drawn.image);
  const std::string subject = subject_key_of(*shot_);
  if (whole_of_ != subject) whole_.reset();
  whole_of_ = subject;
  if (!shot_->view_settings.zoom && !shot_->drawn.frames.empty()) {
    const render::Frame& frame = shot_->drawn.frames.front();
    whole_ = Zoom{frame.x.scale().range(), frame.y.scale().range()};
  }
}

}  // namespace muse::viewer
