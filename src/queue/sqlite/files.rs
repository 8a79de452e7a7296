//! Checks whether the open files are still the ones at their paths.
//!
//! A process keeps writing to a file that was deleted, moved away or replaced, and SQLite does not check for that. What
//! is committed there is lost when the process ends, so it must not be answered as accepted. Before and after every
//! commit, and once a second, the device and inode of the database, its log (`-wal`), its index (`-shm`) and the lock
//! file are compared with those of the open files, and the sizes with those seen last. That takes a few microseconds.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use log::warn;

use super::database::Database;
use crate::queue::QueueError;

/// The size of the header of a log, in bytes. Source: SQLite's page "Database File Format", section 4.1.
const LOG_HEAD: usize = 32;

/// The size of the header of each frame in a log, in bytes. Source: the same section.
const FRAME_HEAD: usize = 24;

/// How often the header of the log is read at most, because another process may be writing it just now.
const READS: usize = 3;

/// The identity of a file, whatever its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What happened to the files of a running bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileChange {
    /// There is no file at the path.
    DatabaseGone,
    /// There is another file at the path.
    DatabaseReplaced,
    /// The file is shorter than its own header says.
    DatabaseTruncated,
    /// There is no log, or another one.
    LogReplaced,
    /// What the log holds is no longer what was written.
    LogTruncated,
    /// There is no index, or another one.
    IndexReplaced,
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DatabaseGone => "was deleted or moved away",
            Self::DatabaseReplaced => "was replaced by another file",
            Self::DatabaseTruncated => "was truncated",
            Self::LogReplaced => {
                "lost its write-ahead log (the file that ends in -wal), which was deleted or replaced,"
            }
            Self::LogTruncated => "lost its write-ahead log (the file that ends in -wal), which was truncated,",
            Self::IndexReplaced => "lost its index (the file that ends in -shm), which was deleted or replaced,",
        })
    }
}

/// What a check of the files found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileCheck {
    Same,
    /// The log is empty and was not before. Either another program made a checkpoint, or someone truncated the file;
    /// which of them it was shows only after another commit.
    LogEmptied,
    Changed(FileChange),
}

/// The state of the log when it was seen last.
#[derive(Debug)]
struct OpenLog {
    file: File,
    id: FileId,
    head: Vec<u8>,
    size: u64,
    /// The offset and the header of the last frame, as it was seen last. A log that was truncated and written to since
    /// is as long as before, with a hole where this frame was.
    end: Option<(u64, [u8; FRAME_HEAD])>,
    /// Whether the last frame is never overwritten. One that a failed commit left behind is.
    is_end_trusted: bool,
}

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Files {
    database: Database,
    /// The database's path with all links resolved: SQLite puts its other files next to that.
    real: PathBuf,
    /// Open for as long as any connection is: closing it would drop the locks that SQLite holds on the file.
    file: File,
    database_id: FileId,
    database_size: u64,
    lock: File,
    lock_id: FileId,
    log: Option<OpenLog>,
    /// Whether the log was started over since the last call of `log_began`: everything that was in it is in the
    /// database then.
    log_began: bool,
    index: Option<FileId>,
}

impl Files {
    /// Opens and locks the database's file, which must exist. Must be called before SQLite opens it.
    pub(super) fn open(database: &Database) -> Result<Self, QueueError> {
        let real = database.path().canonicalize().map_err(|error| database.unopened(&error))?;
        let (lock, lock_id) = lock_file(database, &real)?;
        let (file, metadata) = database_file(database, &real)?;
        let (database_id, database_size) = (FileId::of(&metadata), metadata.len());
        Ok(Self {
            database: database.clone(),
            real,
            file,
            database_id,
            database_size,
            lock,
            lock_id,
            log: None,
            log_began: true,
            index: None,
        })
    }

    /// Opens and locks the file that is at the path now. The lock file is kept if it is still the same.
    pub(super) fn open_anew(&mut self) -> Result<(), QueueError> {
        let database = self.database.clone();
        let real = database.path().canonicalize().map_err(|error| database.unopened(&error))?;
        let found = self.metadata(&beside(&real, "-lock"))?;
        if found.map(|metadata| FileId::of(&metadata)) != Some(self.lock_id) {
            (self.lock, self.lock_id) = lock_file(&database, &real)?;
        }
        let found = self.metadata(&real)?.filter(|metadata| FileId::of(metadata) == self.database_id);
        if let Some(metadata) = found {
            // An earlier attempt to open it again came this far: it is locked already, and cannot be locked twice.
            self.database_size = metadata.len();
        } else {
            let (file, metadata) = database_file(&database, &real)?;
            (self.file, self.database_id, self.database_size) = (file, FileId::of(&metadata), metadata.len());
        }
        self.real = real;
        self.forget();
        Ok(())
    }

    /// The path of a file beside the database.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.real, suffix)
    }

    /// Records the log and the index of the connection that was just opened. `after_failure` says whether a commit may
    /// have failed before.
    pub(super) fn adopt(&mut self, after_failure: bool) {
        self.log = None;
        if let Ok(file) = File::open(self.beside("-wal"))
            && let Ok(metadata) = file.metadata()
        {
            let (id, size, is_end_trusted) = (FileId::of(&metadata), metadata.len(), !after_failure);
            let mut log = OpenLog { id, size, head: Vec::new(), end: None, is_end_trusted, file };
            log.head = log.read_head();
            log.end = log.read_end();
            self.log = Some(log);
        }
        self.index = fs::metadata(self.beside("-shm")).ok().map(|metadata| FileId::of(&metadata));
    }

    /// Forgets the log and the index, because the connection is closed.
    pub(super) fn forget(&mut self) {
        (self.log, self.index) = (None, None);
    }

    /// Compares the open files with those at their paths.
    ///
    /// # Errors
    ///
    /// When the files at the paths cannot be examined, or another bridge took the lock file.
    pub(super) fn check(&mut self) -> Result<FileCheck, QueueError> {
        let Some(metadata) = self.metadata(&self.database.path())? else {
            return Ok(FileCheck::Changed(FileChange::DatabaseGone));
        };
        if FileId::of(&metadata) != self.database_id {
            return Ok(FileCheck::Changed(FileChange::DatabaseReplaced));
        }
        if metadata.len() < self.database_size && !self.is_whole(metadata.len()) {
            return Ok(FileCheck::Changed(FileChange::DatabaseTruncated));
        }
        self.database_size = metadata.len();
        self.keep_locked()?;
        if self.index.is_some() && self.metadata(&self.beside("-shm"))?.map(|found| FileId::of(&found)) != self.index {
            return Ok(FileCheck::Changed(FileChange::IndexReplaced));
        }
        let log = match &self.log {
            Some(_) => self.metadata(&self.beside("-wal"))?,
            None => return Ok(FileCheck::Same),
        };
        match (&mut self.log, log) {
            (Some(log), Some(metadata)) if FileId::of(&metadata) == log.id => {
                let (found, began) = log.check(metadata.len());
                self.log_began |= began;
                Ok(found)
            }
            _ => Ok(FileCheck::Changed(FileChange::LogReplaced)),
        }
    }

    /// Whether the log was started over since the last call.
    pub(super) fn log_began(&mut self) -> bool {
        std::mem::take(&mut self.log_began)
    }

    /// Whether there is a log that is being watched.
    pub(super) fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Whether the log at its path is the one that is open.
    pub(super) fn owns_log(&self) -> bool {
        let found = fs::metadata(self.beside("-wal")).ok().map(|metadata| FileId::of(&metadata));
        found.is_some() && found == self.log.as_ref().map(|log| log.id)
    }

    /// How many frames of the log are complete, judging by its length.
    pub(super) fn whole_frames(&self) -> u64 {
        let Some(log) = &self.log else { return 0 };
        let head = log.read_head();
        let Some(page) = log_page_size(&head) else { return 0 };
        let size = log.file.metadata().map_or(0, |metadata| metadata.len());
        size.saturating_sub(LOG_HEAD as u64) / (FRAME_HEAD as u64 + u64::from(page))
    }

    /// Whether a database of this size has all the pages that its header counts. SQLite makes the file shorter only at
    /// the end of a checkpoint, when the two agree.
    fn is_whole(&self, size: u64) -> bool {
        let mut head = [0; 32];
        if self.file.read_exact_at(&mut head, 0).is_err() || !head.starts_with(b"SQLite format 3\0") {
            return false;
        }
        // A page size of 65,536 is stored as 1. Source: "Database File Format", section 1.3.
        let page = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65_536,
            page => u64::from(page),
        };
        let pages = u32::from_be_bytes([head[28], head[29], head[30], head[31]]);
        size >= page * u64::from(pages)
    }

    /// Creates and locks the lock file again if it was deleted or replaced, so that a second bridge finds it locked.
    fn keep_locked(&mut self) -> Result<(), QueueError> {
        let found = self.metadata(&self.beside("-lock"))?;
        if found.map(|metadata| FileId::of(&metadata)) == Some(self.lock_id) {
            return Ok(());
        }
        (self.lock, self.lock_id) = lock_file(&self.database, &self.real)?;
        warn!(
            "the lock file {} was deleted or replaced while the bridge runs; it was created and locked again",
            self.beside("-lock").display()
        );
        Ok(())
    }

    /// Returns `None` if there is no such file.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, QueueError> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.database.unopened(&error)),
        }
    }
}

/// Unlocks the files before it closes them: closing alone leaves them locked for as long as a process that another thread
/// starts at that moment has copies of their descriptors, which is until it runs its own program.
impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.file, &self.lock] {
            // A file that cannot be unlocked is unlocked when it is closed.
            let _ = file.unlock();
        }
    }
}

impl OpenLog {
    /// Checks the log, which is `size` bytes long now. Also returns whether it was started over.
    fn check(&mut self, size: u64) -> (FileCheck, bool) {
        if size == 0 {
            return (if self.size == 0 { FileCheck::Same } else { FileCheck::LogEmptied }, false);
        }
        let mut head = self.read_head();
        for _ in 1..READS {
            if log_page_size(&head).is_some() {
                break;
            }
            head = self.read_head();
        }
        // A log that is started over has another header, and may be shorter.
        let is_cut = head == self.head && (size < self.size || !self.has_end());
        if is_cut || log_page_size(&head).is_none() {
            return (FileCheck::Changed(FileChange::LogTruncated), false);
        }
        let began = head != self.head;
        self.is_end_trusted |= began;
        (self.head, self.size) = (head, size);
        self.end = self.read_end();
        (FileCheck::Same, began)
    }

    /// Whether the frame that was the last one at the previous check is unchanged.
    fn has_end(&self) -> bool {
        self.end.is_none_or(|(at, end)| self.read_frame_head(at) == Some(end))
    }

    /// Returns the last frame if it ends a commit of this log; after the last commit there may be frames of an older
    /// log, which are overwritten later.
    fn read_end(&self) -> Option<(u64, [u8; FRAME_HEAD])> {
        let frame = FRAME_HEAD as u64 + u64::from(log_page_size(&self.head).filter(|_| self.is_end_trusted)?);
        let frames = self.size.checked_sub(LOG_HEAD as u64)? / frame;
        let at = LOG_HEAD as u64 + frames.checked_sub(1)? * frame;
        let end = self.read_frame_head(at)?;
        let (commit, salt) = (&end[4..8], &end[8..16]);
        (commit != [0; 4] && *salt == self.head[16..24]).then_some((at, end))
    }

    fn read_frame_head(&self, at: u64) -> Option<[u8; FRAME_HEAD]> {
        let mut head = [0; FRAME_HEAD];
        self.file.read_exact_at(&mut head, at).ok().map(|()| head)
    }

    /// Reads the header; empty if the log is too short to have one.
    fn read_head(&self) -> Vec<u8> {
        let mut head = vec![0; LOG_HEAD];
        self.file.read_exact_at(&mut head, 0).map(|()| head).unwrap_or_default()
    }
}

/// Returns the size of a page, if `head` is the header of a log and its checksum is right.
///
/// Source: SQLite's page "Database File Format", sections 4.1 and 4.2.
fn log_page_size(head: &[u8]) -> Option<u32> {
    let words: Vec<[u8; 4]> = head.chunks_exact(4).filter_map(|word| word.try_into().ok()).collect();
    let words: [[u8; 4]; LOG_HEAD / 4] = words.try_into().ok()?;
    let big = words.map(u32::from_be_bytes);
    let summed = match big[0] {
        0x377f_0682 => words.map(u32::from_le_bytes),
        0x377f_0683 => big,
        _ => return None,
    };
    let (mut one, mut two) = (0_u32, 0_u32);
    for pair in summed[..6].chunks_exact(2) {
        one = one.wrapping_add(pair[0]).wrapping_add(two);
        two = two.wrapping_add(pair[1]).wrapping_add(one);
    }
    ((one, two) == (big[6], big[7])).then_some(big[2])
}

/// Opens and locks the database's own file: the lock file may have been deleted, and links have lock files of their own.
fn database_file(database: &Database, real: &Path) -> Result<(File, Metadata), QueueError> {
    let file = File::open(real).map_err(|error| database.unopened(&error))?;
    if may_be_locked(&file) {
        // If the file system has no such locks, the lock file has to suffice.
        if let Err(error @ QueueError::InUse { .. }) = try_lock(database, &file) {
            return Err(error);
        }
    }
    let metadata = file.metadata().map_err(|error| database.unopened(&error))?;
    Ok((file, metadata))
}

/// Opens and locks the lock file next to the database, which a running bridge keeps locked. It is never removed: a
/// second bridge could have opened it just before.
fn lock_file(database: &Database, real: &Path) -> Result<(File, FileId), QueueError> {
    let lock = OpenOptions::new().append(true).create(true).open(beside(real, "-lock"));
    let lock = lock.map_err(|error| database.unopened(&error))?;
    try_lock(database, &lock)?;
    let metadata = lock.metadata().map_err(|error| database.unopened(&error))?;
    Ok((lock, FileId::of(&metadata)))
}

/// Locks a file, which the system unlocks when it is closed or the process dies.
fn try_lock(database: &Database, file: &File) -> Result<(), QueueError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => QueueError::InUse { database: database.name() },
        TryLockError::Error(error) => database.unopened(&error),
    })
}

/// Whether a lock on the whole file and the locks that SQLite sets on ranges of its bytes do not affect each other.
/// That is so on Linux, but not on network file systems, and not on other systems.
#[cfg(target_os = "linux")]
fn may_be_locked(file: &File) -> bool {
    // NFS, SMB, SMB2, CIFS. Source: statfs(2).
    const NETWORK: [i64; 4] = [0x6969, 0x517b, 0xfe53_4d42, 0xff53_4d42];
    #[allow(clippy::useless_conversion, reason = "it is narrower on some machines")]
    let kind = rustix::fs::fstatfs(file).map(|found| i64::from(found.f_type) & 0xffff_ffff);
    kind.is_ok_and(|kind| !NETWORK.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn may_be_locked(_file: &File) -> bool {
    false
}

fn beside(real: &Path, suffix: &str) -> PathBuf {
    let mut path = real.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_head_of_a_log_is_known_by_its_checksum() {
        // Written by SQLite 3.51.3.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let _engine = super::super::SqliteEngine::open(&path).await.unwrap();
        let head = fs::read(beside(&path, "-wal")).unwrap()[..LOG_HEAD].to_vec();
        assert_eq!(log_page_size(&head), Some(4096));
        let mut damaged = head.clone();
        damaged[20] ^= 1;
        assert_eq!(log_page_size(&damaged), None);
        assert_eq!(log_page_size(&[0; LOG_HEAD]), None);
        assert_eq!(log_page_size(&head[..31]), None);
    }

    #[test]
    fn what_was_closed_can_be_opened_while_somebody_still_has_copies_of_its_descriptors() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::new(&directory.path().join("bridge.db"));
        database.create().unwrap();
        let files = Files::open(&database).unwrap();
        // They share their locks, as those of a child process do until it runs its own program.
        let _copies = [files.lock.try_clone().unwrap(), files.file.try_clone().unwrap()];
        assert!(matches!(Files::open(&database), Err(QueueError::InUse { .. })));
        drop(files);
        Files::open(&database).unwrap();
    }

    #[test]
    fn a_log_that_was_cut_and_written_on_before_anybody_looked_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let database = Database::new(&path);
        database.create().unwrap();
        let mut files = Files::open(&database).unwrap();
        let connection = database.connect().unwrap();
        connection.execute("CREATE TABLE numbers (number INTEGER)", []).unwrap();
        files.adopt(false);
        let mut write = |statement| {
            connection.execute(statement, []).unwrap();
            files.check().unwrap()
        };
        for _ in 0..20 {
            assert_eq!(write("INSERT INTO numbers VALUES (1)"), FileCheck::Same);
        }
        let log = OpenOptions::new().write(true).open(beside(&path, "-wal")).unwrap();
        log.set_len(20_000).unwrap();
        // SQLite continues to write where the log ended before.
        assert_eq!(write("INSERT INTO numbers VALUES (2)"), FileCheck::Changed(FileChange::LogTruncated));
    }
}
