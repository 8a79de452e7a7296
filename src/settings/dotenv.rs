//! The file `.env`, by way of `dotenvy`, with errors that tell a line's number instead of what stands there.

use std::cell::Cell;
use std::io::{self, Read};

use super::Problem;

/// The variables a `.env` sets, in its order.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // dotenvy takes blanks at the very end of a file for a line that goes on, and blank lines there would be counted.
    let text = format!("{}\n", text.trim_end());
    let lines_read = Cell::new(0);
    let reader = LineByLine { rest: text.as_bytes(), lines_read: &lines_read };
    dotenvy::from_read_iter(reader)
        .map(|entry| {
            entry.map_err(|error| match error {
                dotenvy::Error::LineParse(read, _) => {
                    // A quote that is never closed swallows the lines behind it; the fault is where it opens.
                    let behind = read.trim_end().matches('\n').count();
                    Problem::DotenvLine(lines_read.get() - behind)
                }
                error => Problem::Dotenv(error.to_string()),
            })
        })
        .collect()
}

/// Hands out a line at a time, so that what has been read so far is where dotenvy is.
struct LineByLine<'a> {
    rest: &'a [u8],
    lines_read: &'a Cell<usize>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        let length = line.len().min(buffer.len());
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        if now.ends_with(b"\n") {
            self.lines_read.set(self.lines_read.get() + 1);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let sentence = parse(text).unwrap_err().to_string();
        assert!(!sentence.contains("hunter2"), "{sentence}");
        sentence.split(':').next().unwrap().to_owned()
    }

    #[test]
    fn entries_are_read_as_people_write_them() {
        let entries =
            parse("\u{feff}# note\n\nexport A=1 \nB = 'x;y # $z' # why\r\nC=\"two\nlines\"\nD=\nE=last  ").unwrap();
        let entries: Vec<_> = entries.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(entries, [("A", "1"), ("B", "x;y # $z"), ("C", "two\nlines"), ("D", ""), ("E", "last")]);
    }

    #[test]
    fn a_broken_line_is_named_by_its_number_only() {
        assert_eq!(fault("A=1\n# note\n\nB hunter2\nC=1\n"), "`.env` has no `NAME=value` on line 4");
        assert_eq!(fault("hunter2"), "`.env` has no `NAME=value` on line 1");
        assert_eq!(fault("A='1\n2'\nB=hunter2 hunter2\n"), "`.env` has no `NAME=value` on line 3");
        assert_eq!(fault("A=1\nB='1\nhunter2' x\nC=1"), "`.env` has no `NAME=value` on line 2");
        assert_eq!(fault(&format!("A={}\nhunter2\n", "x".repeat(20_000))), "`.env` has no `NAME=value` on line 2");
    }

    #[test]
    fn a_quote_that_stays_open_is_named_where_it_opens() {
        assert_eq!(fault("A=1\nB='hunter2\nC=3\n"), "`.env` has no `NAME=value` on line 2");
        assert_eq!(fault("A=1\nB='hunter2\n\nC=3\n\n\n"), "`.env` has no `NAME=value` on line 2");
        assert_eq!(fault("A=1\nB='hunter2"), "`.env` has no `NAME=value` on line 2");
    }
}
