//! Where settings come from, and how these sources give one text for each setting.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Problem, SETTINGS, Setting};

/// The prefix of every setting except `RUST_LOG`.
pub(super) const PREFIX: &str = "BRIDGE_";

/// Where settings come from. An argument of [`Config::load`](super::Config::load), so that tests need not touch
/// the environment of their process.
pub struct Source<'a> {
    /// Environment variables; those that are not settings are ignored, unless they begin with `BRIDGE_`.
    pub variables: Vec<(OsString, OsString)>,
    /// A file with further variables, over which those above take precedence. It need not exist.
    pub dotenv: Option<PathBuf>,
    /// Reads a whole file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// The text of each setting, by the setting's name.
pub(super) type Texts = BTreeMap<&'static str, String>;

/// The maximum size of a file, in bytes: a path may name a device that never ends.
const MAX_FILE: u64 = 1024 * 1024;

impl Source<'_> {
    /// The environment of this process and `.env` in its working directory.
    #[must_use]
    pub fn process() -> Self {
        // Not `env::vars`, which panics if any variable of the environment is not UTF-8.
        Self { dotenv: Some(".env".into()), ..Self::variables(env::vars_os()) }
    }

    /// These variables and no `.env`.
    #[must_use]
    pub fn variables<N: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, dotenv: None, read: &read }
    }

    /// Returns one text for every setting that is set or has a default, trimmed and never empty, and the problems of
    /// the others. If `.env` cannot be read, that is the only problem, because what it would have set is unknown.
    pub(super) fn texts(&self) -> Result<(Texts, Vec<Problem>), Problem> {
        let mut problems = Vec::new();
        let given = self.given(&mut problems)?;
        let mut texts = BTreeMap::new();
        for setting in SETTINGS {
            match self.text(setting, &given) {
                Ok(text) => texts.extend(text.map(|text| (setting.name, text))),
                Err(problem) => problems.push(problem),
            }
        }
        Ok((texts, problems))
    }

    /// Returns the file that a setting is read from, if it is given by a file.
    pub(super) fn file_of(&self, name: &str) -> Option<PathBuf> {
        let given = self.given(&mut Vec::new()).ok()?;
        given.values.get(&file_name(name)).map(PathBuf::from)
    }

    fn given(&self, problems: &mut Vec<Problem>) -> Result<Given, Problem> {
        let mut given = Given::default();
        for (name, value) in &self.variables {
            given.add(name, value, problems);
        }
        given.fill_up(self.dotenv()?, problems);
        Ok(given)
    }

    fn dotenv(&self) -> Result<Vec<(String, String)>, Problem> {
        let Some(path) = &self.dotenv else {
            return Ok(Vec::new());
        };
        match (self.read)(path) {
            Ok(text) => parse_dotenv(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Problem::Dotenv(error.to_string())),
        }
    }

    fn text(&self, setting: &Setting, given: &Given) -> Result<Option<String>, Problem> {
        let name = setting.name;
        let path = match (given.values.get(name), given.values.get(&file_name(name))) {
            (Some(_), Some(_)) => return Err(Problem::Both { name }),
            (Some(value), None) => return Ok(Some(value.clone())),
            (None, Some(path)) => path,
            (None, None) => return Ok(setting.default.map(str::to_owned)),
        };
        let text = (self.read)(Path::new(path)).map_err(|error| Problem::File {
            name,
            file: shown(path, setting),
            why: error.to_string(),
        })?;
        let text = text.trim();
        if text.is_empty() {
            return Err(Problem::EmptyFile { name, file: shown(path, setting) });
        }
        Ok(Some(text.to_owned()))
    }
}

/// The values that were given, by the variable that gave them.
#[derive(Default)]
struct Given {
    values: BTreeMap<String, String>,
}

impl Given {
    fn add(&mut self, name: &OsStr, value: &OsStr, problems: &mut Vec<Problem>) {
        let name = name.to_string_lossy();
        if !(name.starts_with(PREFIX) || known(&name).is_some()) || is_blank(value) {
            return;
        }
        match (known(&name), value.to_str()) {
            (None, _) => problems.push(Problem::Unknown { nearest: nearest(&name), name: name.into_owned() }),
            (Some(setting), None) => problems.push(Problem::NotText { name: name.into_owned(), setting }),
            (Some(_), Some(value)) => {
                self.values.insert(name.into_owned(), value.trim().to_owned());
            }
        }
    }

    /// Adds the entries of `.env` whose settings are not given yet. `X` hides `X_FILE` and vice versa, because they are
    /// one setting.
    fn fill_up(&mut self, entries: Vec<(String, String)>, problems: &mut Vec<Problem>) {
        let before: BTreeSet<&str> = self.values.keys().filter_map(|name| known(name)).collect();
        let mut seen = BTreeSet::new();
        let mut further = Self::default();
        for (name, value) in entries {
            let setting = known(&name);
            if setting.is_some() && !seen.insert(name.clone()) {
                problems.push(Problem::DotenvTwice(name));
            } else if setting.is_none_or(|setting| !before.contains(setting)) {
                further.add(OsStr::new(&name), OsStr::new(&value), problems);
            }
        }
        self.values.append(&mut further.values);
    }
}

/// Returns the setting that a variable gives, directly or by a file.
fn known(variable: &str) -> Option<&'static str> {
    let named = |name: &str| SETTINGS.iter().map(|setting| setting.name).find(|setting| *setting == name);
    let by_file = || named(variable.strip_suffix("_FILE")?).filter(|name| name.starts_with(PREFIX));
    // In this order: BRIDGE_PAGERDUTY_CA_FILE is a setting of its own.
    named(variable).or_else(by_file)
}

fn file_name(setting: &str) -> String {
    format!("{setting}_FILE")
}

/// Words that other programs use in the names of such settings, and the words that this program uses.
const SYNONYMS: [(&str, &str); 12] = [
    ("ADDR", "LISTEN"),
    ("ADDRESS", "LISTEN"),
    ("BIND", "LISTEN"),
    ("HOST", "LISTEN"),
    ("PORT", "LISTEN"),
    ("DB", "DATABASE"),
    ("SQLITE", "DATABASE"),
    ("INTEGRATION", "SERVICE"),
    ("ROUTING", "SERVICE"),
    ("PASSWORD", "TOKEN"),
    ("ORGANIZATION", "ORG"),
    ("ENDPOINT", "URL"),
];

/// The variable that was most likely meant by `name`.
fn nearest(name: &str) -> String {
    let names = SETTINGS.iter().map(|setting| setting.name.to_owned());
    let candidates = names.clone().chain(names.filter(|name| name.starts_with(PREFIX)).map(|name| file_name(&name)));
    let words = |name: &str| -> Vec<String> {
        let words = name.trim_start_matches(PREFIX).split('_').map(str::to_ascii_uppercase);
        let same = |word: &String| SYNONYMS.iter().find(|(other, _)| other == word).map(|(_, ours)| (*ours).to_owned());
        words.map(|word| same(&word).unwrap_or(word)).collect()
    };
    let wanted = words(name);
    let distance = |candidate: &String| {
        let has = words(candidate);
        // `TOKEN` probably means one of the names with that word, the first of which is what most people need. The edit
        // distance, which is used for misspelt words, would be large for all of them.
        let is_part = wanted.iter().all(|word| has.contains(word));
        let more = if is_part { has.len() - wanted.len().min(has.len()) } else { 0 };
        let letters = if is_part { 0 } else { strsim::damerau_levenshtein(candidate, name) };
        (!candidate.starts_with(name), !is_part, more, letters)
    };
    candidates.min_by_key(distance).unwrap_or_default()
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

/// Formats a path for people, unless it may be the secret itself, put into `X_FILE` by mistake.
pub(super) fn shown(path: &str, setting: &Setting) -> String {
    let may_be_secret = path.contains("://") || (setting.secret && !path.contains('/'));
    if may_be_secret {
        "a file (not shown, because it may be the secret itself)".to_owned()
    } else {
        format!("`{path}`")
    }
}

/// Reads a whole file, unless it is too large for a setting.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Parses a `.env` and returns its variables in order. Errors name a line and never repeat its content.
fn parse_dotenv(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // dotenvy treats whitespace at the end of a file as a line that continues, and blank lines there would be counted.
    let text = format!("{}\n", text.trim_end());
    let lines_read = Cell::new(0);
    let reader = LineByLine { rest: text.as_bytes(), lines_read: &lines_read };
    dotenvy::from_read_iter(reader)
        .map(|entry| {
            entry.map_err(|error| match error {
                dotenvy::Error::LineParse(read, _) => {
                    // A quote that is never closed swallows the lines after it; the fault is where it opens.
                    let after = read.trim_end().matches('\n').count();
                    Problem::DotenvLine(lines_read.get() - after)
                }
                error => Problem::Dotenv(error.to_string()),
            })
        })
        .collect()
}

/// Returns one line per read, so that the number of lines read so far is the position of dotenvy.
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
        let sentence = parse_dotenv(text).unwrap_err().to_string();
        assert!(!sentence.contains("hunter2"), "{sentence}");
        sentence.split(':').next().unwrap().to_owned()
    }

    #[test]
    fn entries_are_read_as_people_write_them() {
        let entries =
            parse_dotenv("\u{feff}# note\n\nexport A=1 \nB = 'x;y # $z' # why\r\nC=\"two\nlines\"\nD=\nE=last  ")
                .unwrap();
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
