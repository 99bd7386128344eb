//! Draws the model as lines. They fill the screen of a terminal, or form a report as text.

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::{Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};

use super::model::{ListKind, Model};

mod cells;
mod columns;
mod head;
mod help;
mod links;
mod lists;
mod table;

/// Width of a report that does not go to a terminal.
const REPORT_COLUMNS: u16 = 160;
/// From this size on there is room for sentences and lists. On smaller screens each topic has one line.
const ROOMY: Size = Size::new(100, 32);

/// Draws `model` into `area`, which should have the size `model.size`: [`table_rows`] computes with that size.
pub fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let view = View { model, columns: area.width, is_roomy: is_roomy(area.as_size()), is_report: false };
    if model.is_help {
        return put(&help::lines(), area, buffer);
    }
    let [mut head, middle] = [view.head(), view.middle(area.height)];
    let banners = view.banners();
    let is_stale = model.is_stale();
    let aged = middle.into_iter().map(|line| if is_stale { line.dim() } else { line });
    head.extend(banners);
    head.extend(aged);
    let rows = usize::from(area.height).saturating_sub(head.len() + view.table_frame());
    head.extend(view.list_head(model.list));
    head.extend(view.list_rows(model.list, model.scroll, rows).into_iter().map(|line| {
        if is_stale { line.patch_style(Style::new().add_modifier(Modifier::DIM)) } else { line }
    }));
    put(&head, area, buffer);
    if area.height > 1 {
        // The last line of the screen lists the keys and covers what is drawn there.
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        buffer.set_style(last, Style::reset());
        put(&[view.foot(rows)], last, buffer);
    }
}

/// How many rows of the list the screen can show at a time.
#[must_use]
pub fn table_rows(model: &Model) -> usize {
    let Size { width, height } = model.size;
    let view = View { model, columns: width, is_roomy: is_roomy(model.size), is_report: false };
    let above = view.head().len() + view.banners().len() + view.middle(height).len();
    usize::from(height).saturating_sub(above + view.table_frame())
}

/// The whole report with all links, outputs and sources, as plain text.
#[must_use]
pub fn report(model: &Model) -> String {
    let view = View { model, columns: REPORT_COLUMNS, is_roomy: true, is_report: true };
    let mut lines = view.head();
    lines.extend(view.banners());
    lines.extend(view.middle(u16::MAX));
    if !model.links().is_empty() {
        lines.extend(view.list(ListKind::Links));
    }
    if !model.outputs().is_empty() {
        lines.extend(view.list(ListKind::Outputs));
    }
    lines.extend(view.list(ListKind::Sources));
    let text = |line: &Line<'_>| {
        let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
        text.trim_end().to_owned() + "\n"
    };
    lines.iter().map(text).collect()
}

const fn is_roomy(size: Size) -> bool {
    size.width >= ROOMY.width && size.height >= ROOMY.height
}

/// A model and how to draw it.
struct View<'a> {
    /// What is drawn.
    model: &'a Model,
    /// The width of the screen or report in characters.
    columns: u16,
    /// Whether there is room for sentences and lists; see [`ROOMY`].
    is_roomy: bool,
    /// Whether a text is made, which shows everything once and does not scroll.
    is_report: bool,
}

impl View<'_> {
    /// The numbers, the history of the throughput and the lists. They lie between the banners and the list that
    /// scrolls. A small screen has no room for them beside links or outputs.
    fn middle(&self, height: u16) -> Vec<Line<'static>> {
        let Some((snapshot, _)) = &self.model.known else { return Vec::new() };
        if !self.is_roomy && self.model.list != ListKind::Sources {
            return Vec::new();
        }
        let mut lines = self.figures(&snapshot.stats);
        if !self.is_report {
            lines.push(self.throughput());
        }
        lines.extend(self.lists(&snapshot.stats, height));
        lines
    }

    /// Rows around the list: its titles, and the last line of the screen.
    fn table_frame(&self) -> usize {
        self.list_head(self.model.list).len() + 1
    }

    /// The title of `list`, and the titles of its columns.
    fn list_head(&self, list: ListKind) -> Vec<Line<'static>> {
        match list {
            ListKind::Sources => self.source_head(),
            ListKind::Links => self.link_head(),
            ListKind::Outputs => self.output_head(),
        }
    }

    /// At most `rows` rows of `list`, starting with the one at `scroll`.
    fn list_rows(&self, list: ListKind, scroll: usize, rows: usize) -> Vec<Line<'static>> {
        match list {
            ListKind::Sources => self.source_rows(scroll, rows),
            ListKind::Links => self.link_rows(scroll, rows),
            ListKind::Outputs => self.output_rows(scroll, rows),
        }
    }

    /// All of `list` with its titles.
    fn list(&self, list: ListKind) -> Vec<Line<'static>> {
        let mut lines = self.list_head(list);
        lines.extend(self.list_rows(list, 0, usize::MAX));
        lines
    }

    /// The last line of the screen: the keys, and which of the rows are shown.
    fn foot(&self, rows: usize) -> Line<'static> {
        let (all, scroll) = (self.model.row_count(), self.model.scroll);
        let mut text = match (self.model.list, self.model.next_list()) {
            (ListKind::Sources, ListKind::Sources) => {
                "q quit  ? help  s sort  r reverse  f filter".to_owned()
            }
            (ListKind::Sources, next) => format!("q quit  ? help  l {}  s sort  f filter", next.name()),
            (_, next) => format!("q quit  ? help  l {}", next.name()),
        };
        if all > rows {
            text += &format!("  {}-{} of {all}", scroll + 1, (scroll + rows).min(all));
        }
        faint(cells::left(&text, usize::from(self.columns))).into()
    }
}

/// Draws lines from the top of `area`, as many as fit.
fn put(lines: &[Line<'_>], area: Rect, buffer: &mut Buffer) {
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        buffer.set_style(Rect { y, height: 1, ..area }, line.style);
        buffer.set_line(area.x, y, line, area.width);
    }
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::raw(text.into()).bold()
}

fn faint(text: impl Into<String>) -> Span<'static> {
    Span::raw(text.into()).dim()
}
