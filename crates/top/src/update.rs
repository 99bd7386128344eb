//! How keys and answers change the model.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::draw;
use super::links::output_rates;
use super::model::{Column, Filter, HISTORY_MAX, Input, ListKind, Model, Next, Snapshot};

impl Model {
    /// Applies an event to the model.
    pub fn step(&mut self, input: Input) -> Next {
        match input {
            Input::Now(now) => self.now = now,
            Input::Size(size) => self.size = size,
            Input::Known(snapshot) => self.take(*snapshot),
            Input::Trouble(why) => {
                self.note_throughput(None);
                self.trouble = Some(why);
            }
            Input::Key(key) if key.kind == KeyEventKind::Release => {}
            Input::Key(key) => {
                if self.press(key) == Next::Quit {
                    return Next::Quit;
                }
            }
        }
        let last = self.row_count().saturating_sub(draw::table_rows(self));
        self.scroll = self.scroll.min(last);
        Next::GoOn
    }

    fn take(&mut self, snapshot: Snapshot) {
        let lanes = &snapshot.stats.lanes;
        let frames = lanes.emergency.frames_per_s + lanes.routine.frames_per_s;
        self.note_throughput(Some(frames.round() as u64));
        if let Some((before, came)) = &self.known {
            self.output_rates = output_rates(before, &snapshot, self.now.saturating_sub(*came));
        }
        self.known = Some((snapshot, self.now));
        self.trouble = None;
        if self.row_count() == 0 {
            self.list = ListKind::Sources;
        }
    }

    fn press(&mut self, key: KeyEvent) -> Next {
        let page = draw::table_rows(self).max(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Next::Quit,
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc if self.is_help => self.is_help = false,
            KeyCode::Char('?' | 'h') => self.is_help = !self.is_help,
            KeyCode::Char('l') | KeyCode::Tab => self.go_to(self.next_list()),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll += page,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = self.row_count(),
            code if self.list == ListKind::Sources => self.arrange(code),
            _ => {}
        }
        Next::GoOn
    }

    /// The keys that sort and filter the sources.
    fn arrange(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('s') | KeyCode::Right => self.sort_by(self.sort.further(1)),
            KeyCode::Char('S') | KeyCode::Left => self.sort_by(self.sort.further(Column::ALL.len() - 1)),
            KeyCode::Char('r') => self.is_descending = !self.is_descending,
            KeyCode::Char('f') => self.show(self.filter.next()),
            KeyCode::Char('a') => self.show(Filter::All),
            KeyCode::Char('c') => self.show(Filter::Connected),
            KeyCode::Char('o') => self.show(Filter::Offline),
            KeyCode::Char('t') => self.show(Filter::Trouble),
            _ => {}
        }
    }

    fn go_to(&mut self, list: ListKind) {
        self.list = list;
        self.scroll = 0;
    }

    fn sort_by(&mut self, column: Column) {
        self.sort = column;
        self.is_descending = column.begins_descending();
        self.scroll = 0;
    }

    fn show(&mut self, filter: Filter) {
        self.filter = filter;
        self.scroll = 0;
    }

    fn note_throughput(&mut self, frames_per_s: Option<u64>) {
        if self.throughput.len() == HISTORY_MAX {
            self.throughput.pop_front();
        }
        self.throughput.push_back(frames_per_s);
    }
}
