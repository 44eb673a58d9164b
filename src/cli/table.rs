//! Rows under a heading, in columns as wide as they need, and no wider than the terminal: columns that matter less are cut or left out. What is to be
//! pasted into another command is never cut.

/// Between two columns.
const GAP: usize = 2;

/// One column.
pub(super) struct Column {
    pub(super) heading: &'static str,
    /// A cell a row.
    pub(super) cells: Vec<String>,
    /// May be cut to so many characters; `None`: never.
    pub(super) least: Option<usize>,
    /// Where there is no room even so, the column with the highest rank goes first; 0 stays always.
    pub(super) rank: u8,
}

impl Column {
    fn natural(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.heading.len()]).max().unwrap_or(0)
    }

    fn least(&self) -> usize {
        let natural = self.natural();
        self.least.map_or(natural, |least| least.max(self.heading.len()).min(natural))
    }
}

/// The lines. `width`: columns of the terminal, if there is one.
pub(super) fn lines(mut columns: Vec<Column>, width: Option<usize>) -> Vec<String> {
    let width = width.unwrap_or(usize::MAX);
    while with_gaps(columns.iter().map(Column::least)) > width {
        let last = columns.iter().enumerate().max_by_key(|(_, column)| column.rank);
        match last {
            Some((index, column)) if column.rank > 0 => _ = columns.remove(index),
            _ => break,
        }
    }
    let widths = widths(&columns, width);
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| fitted(cell, *width));
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let heading = line(columns.iter().map(|column| column.heading).collect());
    let body =
        (0..rows).map(|row| line(columns.iter().map(|column| &*column.cells[row]).collect()));
    [heading].into_iter().chain(body).collect()
}

/// What each column gets: its own width, and where that is too much those with the highest rank give first.
fn widths(columns: &[Column], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(Column::natural).collect();
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|index| std::cmp::Reverse(columns[*index].rank));
    for index in by_rank {
        let excess = with_gaps(widths.iter().copied()).saturating_sub(width);
        widths[index] = widths[index].saturating_sub(excess).max(columns[index].least());
    }
    widths
}

fn with_gaps(widths: impl Iterator<Item = usize>) -> usize {
    let widths: Vec<usize> = widths.collect();
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

fn fitted(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return format!("{cell:width$}");
    }
    let mut cut: String = cell.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |heading, cells: [&str; 2], least, rank| Column {
            heading,
            cells: cells.map(str::to_owned).to_vec(),
            least,
            rank,
        };
        vec![
            column("ID", ["evt_1234567890", "evt_2"], None, 0),
            column("TYPE", ["customer.subscription.updated", "a"], Some(8), 1),
            column("ERROR", ["", "something went wrong"], Some(10), 2),
        ]
    }

    #[test]
    fn without_a_terminal_nothing_is_cut() {
        let lines = lines(columns(), None);
        assert_eq!(lines[0], "ID              TYPE                           ERROR");
        assert_eq!(lines[2], "evt_2           a                              something went wrong");
    }

    #[test]
    fn what_matters_less_is_cut_first_then_left_out_and_an_id_never() {
        let first = |width| lines(columns(), Some(width))[1..].join("\n");
        assert!(first(60).contains("customer.subscription.updated"), "the error gives first");
        assert!(first(60).contains("something we…"), "{}", first(60));
        assert!(first(50).contains("evt_1234567890  customer.subscription…"), "{}", first(50));
        assert!(
            !first(30).contains("some") && first(30).contains("evt_1234567890  customer.subs…")
        );
        assert_eq!(lines(columns(), Some(10))[1], "evt_1234567890");
        for width in 24..80 {
            for line in lines(columns(), Some(width)) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}
