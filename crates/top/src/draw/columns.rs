//! The columns of the lists of links and of outputs.

use ratatui::style::Style;
use ratatui::text::Line;

use super::{View, cells};

/// A column of the list of links or of outputs.
pub(super) struct Column<T> {
    /// Its title.
    title: &'static str,
    /// Its least width in characters.
    width: usize,
    /// Whether cells are aligned to the left, as text is, and not to the right.
    is_text: bool,
    /// Narrow screens leave out the columns with the highest ranks.
    rank: u8,
    /// Returns the text of a cell.
    cell: fn(&View<'_>, &T) -> String,
}

impl<T> Column<T> {
    pub(super) const fn text(
        title: &'static str,
        width: usize,
        rank: u8,
        cell: fn(&View<'_>, &T) -> String,
    ) -> Self {
        Self { title, width, is_text: true, rank, cell }
    }

    pub(super) const fn number(
        title: &'static str,
        width: usize,
        rank: u8,
        cell: fn(&View<'_>, &T) -> String,
    ) -> Self {
        Self { title, width, is_text: false, rank, cell }
    }

    fn aligned(&self, text: &str, width: usize) -> String {
        if self.is_text { cells::left(text, width) } else { cells::right(text, width) }
    }
}

impl View<'_> {
    /// The titles of the columns that fit.
    pub(super) fn titles<T>(&self, columns: &'static [Column<T>]) -> Line<'static> {
        let titles = self.fitting(columns).into_iter();
        let titles: Vec<_> = titles.map(|(column, width)| column.aligned(column.title, width)).collect();
        Line::styled(titles.join(" "), Style::new().bold())
    }

    /// The cells of one row.
    pub(super) fn cells<T>(&self, columns: &'static [Column<T>], of: &T) -> String {
        let fitting = self.fitting(columns).into_iter();
        let cells: Vec<_> =
            fitting.map(|(column, width)| column.aligned(&(column.cell)(self, of), width)).collect();
        cells.join(" ")
    }

    /// The columns that fit, from left to right, with their widths. A text in the last one takes the space that is
    /// left.
    fn fitting<T>(&self, columns: &'static [Column<T>]) -> Vec<(&'static Column<T>, usize)> {
        let mut by_rank: Vec<_> = columns.iter().collect();
        by_rank.sort_by_key(|column| column.rank);
        // Each column takes a blank behind it. The last one needs none.
        let mut left = usize::from(self.columns) + 1;
        let mut ranks = Vec::new();
        for column in by_rank {
            if column.width < left {
                left -= column.width + 1;
                ranks.push(column.rank);
            }
        }
        let fits = |column: &&'static Column<T>| ranks.contains(&column.rank);
        let mut fitting: Vec<_> = columns.iter().filter(fits).map(|column| (column, column.width)).collect();
        if let Some((column, width)) = fitting.last_mut()
            && column.is_text
        {
            *width += left;
        }
        fitting
    }
}
