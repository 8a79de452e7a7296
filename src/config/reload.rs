//! Secrets that are given as files and read again while the bridge runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::Problem;
use super::source::{self, Source};
use super::{Config, ConfigError, SETTINGS, Setting};

/// The secrets that stay in use until the bridge is restarted, because its connections to the database stay open while
/// it runs.
const UNTIL_RESTART: [&str; 2] = ["BRIDGE_DATABASE_URL", "BRIDGE_DATABASE_DIRECT_URL"];

/// The files of the secrets that are given as files. Only regular files are read again: a pipe cannot be read a second
/// time.
#[derive(Clone, Debug, Default)]
pub struct SecretFiles {
    files: Vec<(&'static Setting, PathBuf)>,
    digests: Digests,
}

impl SecretFiles {
    /// Returns the files that `source` names. Call this before the settings are read from it, so that a file that
    /// changes in between is seen as changed.
    #[must_use]
    pub fn of(source: &Source<'_>) -> Self {
        let secrets = SETTINGS.iter().filter(|setting| setting.secret);
        let files = secrets.filter_map(|setting| Some((setting, source.file_of(setting.name)?)));
        let files = files.filter(|(_, path)| path.is_file()).collect();
        let files = Self { files, digests: Digests::new() };
        Self { digests: files.read().digests(), ..files }
    }

    /// The digests of their initial contents.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads all files. Blocks on disk I/O.
    #[must_use]
    pub fn read(&self) -> Contents {
        self.read_by(source::read)
    }

    fn read_by(&self, read: impl Fn(&Path) -> io::Result<String>) -> Contents {
        let text = |setting: &Setting, path: &Path| {
            let file = || source::shown(&path.to_string_lossy(), setting);
            let text = read(path).map_err(|error| Problem::File {
                name: setting.name,
                file: file(),
                why: error.to_string(),
            })?;
            match text.trim() {
                "" => Err(Problem::EmptyFile { name: setting.name, file: file() }),
                text => Ok(text.to_owned()),
            }
        };
        Contents(self.files.iter().map(|(setting, path)| (setting.name, text(setting, path))).collect())
    }
}

/// The contents of the files, or why they could not be read.
pub struct Contents(BTreeMap<&'static str, Result<String, Problem>>);

/// A digest of the content of each file, by the name of the setting, for detecting changes.
pub type Digests = BTreeMap<&'static str, [u8; 32]>;

impl Contents {
    /// Returns a digest of each content or of the error.
    #[must_use]
    pub fn digests(&self) -> Digests {
        let digest = |content: &Result<String, Problem>| match content {
            Ok(text) => Sha256::new().chain_update([0]).chain_update(text).finalize().into(),
            Err(problem) => Sha256::new().chain_update([1]).chain_update(problem.to_string()).finalize().into(),
        };
        self.0.iter().map(|(name, content)| (*name, digest(content))).collect()
    }

    /// Returns the configuration `before` with these secrets in place of its own.
    ///
    /// # Errors
    ///
    /// The error contains every problem of the new secrets; `before` should then stay in use.
    pub fn parse(self, before: &Config) -> Result<Config, ConfigError> {
        let (mut texts, mut problems) = (source::Texts::new(), Vec::new());
        for (name, content) in self.0 {
            match content {
                Ok(text) => drop(texts.insert(name, text)),
                Err(problem) => problems.push(problem),
            }
        }
        let after = before.with_texts(&texts, problems)?;
        let (database_url, database_direct_url) = (before.database_url.clone(), before.database_direct_url.clone());
        Ok(Config { database_url, database_direct_url, ..after })
    }
}

/// Whether a new value of this secret is used only after a restart.
#[must_use]
pub fn needs_restart(name: &str) -> bool {
    UNTIL_RESTART.contains(&name)
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const TOKEN: &str = "a-token-of-some-length";

    fn set_up(token: &Path, admin: &Path) -> (Config, SecretFiles) {
        let source = Source::variables([
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_WEBHOOK_TOKEN_FILE", token.to_str().unwrap()),
            ("BRIDGE_ADMIN_TOKEN_FILE", admin.to_str().unwrap()),
            ("BRIDGE_SENTRY_CLIENT_SECRET", "a-client-secret-of-sentry"),
        ]);
        (Config::load(&source).unwrap(), SecretFiles::of(&source))
    }

    #[test]
    fn what_is_wrong_with_a_new_value_is_said_without_it() {
        let home = tempfile::tempdir().unwrap();
        let [token, admin] = ["token", "admin"].map(|name| home.path().join(name));
        fs::write(&token, TOKEN).unwrap();
        fs::write(&admin, "an-admin-token-of-some-length").unwrap();
        let (before, files) = set_up(&token, &admin);
        let digests = files.read().digests();
        assert_eq!(digests.keys().copied().collect::<Vec<_>>(), ["BRIDGE_ADMIN_TOKEN", "BRIDGE_WEBHOOK_TOKEN"]);
        assert_eq!(files.read().digests(), digests);

        let problem = |text: &str| {
            fs::write(&token, text).unwrap();
            assert_ne!(files.read().digests(), digests);
            files.read().parse(&before).unwrap_err().to_string()
        };
        assert!(problem("SECRET").starts_with("BRIDGE_WEBHOOK_TOKEN has 6 characters in token 1"));
        assert!(problem(" \n").contains("BRIDGE_WEBHOOK_TOKEN_FILE names"));
        assert!(problem("an-admin-token-of-some-length").starts_with("BRIDGE_ADMIN_TOKEN contains a token of"));
        fs::remove_file(&token).unwrap();
        let gone = files.read();
        assert!(gone.parse(&before).unwrap_err().to_string().contains("cannot be read"));

        fs::write(&token, format!("{TOKEN}-new\n")).unwrap();
        let contents = files.read();
        assert!(!format!("{contents:?}").contains(TOKEN));
        let after = contents.parse(&before).unwrap();
        assert!(after.webhook_token[0].matches(format!("{TOKEN}-new").as_bytes()));
        assert_eq!(after.sentry_client_secret.len(), 1, "what is given by value stays");
    }

    #[test]
    fn every_secret_may_be_read_again_and_one_that_cannot_be_used_before_a_restart_is_not() {
        let home = tempfile::tempdir().unwrap();
        let secrets: Vec<_> = SETTINGS.iter().filter(|setting| setting.secret).map(|setting| setting.name).collect();
        let file = |name: &str| home.path().join(name);
        let value = |name: &str, key: char| match name {
            "BRIDGE_PAGERDUTY_ROUTES" => format!("project,shop,{}", key.to_string().repeat(32)),
            "BRIDGE_DATABASE_URL" | "BRIDGE_DATABASE_DIRECT_URL" => format!("postgres://{key}@db.example.com/queue"),
            "BRIDGE_PAGERDUTY_API_TOKEN" => key.to_string().repeat(20),
            "BRIDGE_PAGERDUTY_NAMES" => format!("{},Payments {key}", "0".repeat(32)),
            "BRIDGE_CANARY_DSN" => format!("https://{key}@sentry.example.com/1"),
            "BRIDGE_FALLBACK_URL" => format!("https://chat.example.com/{key}"),
            "BRIDGE_ADMIN_TOKEN" => format!("admin{}", key.to_string().repeat(27)),
            _ => key.to_string().repeat(32),
        };
        let write = |key: char| secrets.iter().for_each(|name| fs::write(file(name), value(name, key)).unwrap());
        write('a');
        let beside = [("BRIDGE_SENTRY_URL", "https://sentry.io"), ("BRIDGE_SENTRY_ORG", "acme")];
        let beside = beside.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let files = secrets.iter().map(|name| (format!("{name}_FILE"), file(name).display().to_string()));
        let source = Source::variables(files.chain(beside));
        let (before, files) = (Config::load(&source).unwrap(), SecretFiles::of(&source));
        write('b');
        let after = files.read().parse(&before).unwrap();
        assert_eq!(after.database_url.to_string(), before.database_url.to_string(), "only after a restart");
        let fresh = Config::load(&source).unwrap();
        let (database_url, database_direct_url) = (before.database_url.clone(), before.database_direct_url.clone());
        let expected = Config { database_url, database_direct_url, ..fresh };
        assert_eq!(after.fingerprint(), expected.fingerprint());
        assert_ne!(after.fingerprint(), before.fingerprint());
        let known: Vec<_> = secrets.into_iter().filter(|name| needs_restart(name)).collect();
        assert_eq!(known, UNTIL_RESTART);
    }
}
