//! Secrets that are given as files and read again while the bridge runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::declare::Problems;
use super::error::Problem;
use super::source::{self, Source};
use super::{AdminToken, ClientSecret, Config, ConfigError, SETTINGS, Setting, WebhookToken, secrets};

const WEBHOOK_TOKEN: &str = "BRIDGE_WEBHOOK_TOKEN";
const CLIENT_SECRET: &str = "BRIDGE_SENTRY_CLIENT_SECRET";
const ADMIN_TOKEN: &str = "BRIDGE_ADMIN_TOKEN";

/// The secrets that may change while the bridge runs.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// `BRIDGE_WEBHOOK_TOKEN`.
    pub webhook_token: Vec<WebhookToken>,
    /// `BRIDGE_SENTRY_CLIENT_SECRET`.
    pub sentry_client_secret: Vec<ClientSecret>,
    /// `BRIDGE_ADMIN_TOKEN`.
    pub admin_token: Vec<AdminToken>,
}

impl Secrets {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            webhook_token: config.webhook_token.clone(),
            sentry_client_secret: config.sentry_client_secret.clone(),
            admin_token: config.admin_token.clone(),
        }
    }

    /// The same configuration with these secrets.
    #[must_use]
    pub fn in_place_of_those(&self, config: &Config) -> Config {
        let Self { webhook_token, sentry_client_secret, admin_token } = self.clone();
        Config { webhook_token, sentry_client_secret, admin_token, ..config.clone() }
    }
}

/// The files of the secrets that are given as files. Only regular files are read again: a pipe has nothing to say a second
/// time.
#[derive(Clone, Debug, Default)]
pub struct SecretFiles {
    files: Vec<(&'static Setting, PathBuf)>,
    digests: Digests,
}

impl SecretFiles {
    /// The files that `source` names. Call this before the settings are read from it, so that a file that changes in between is
    /// seen as changed.
    #[must_use]
    pub fn of(source: &Source<'_>) -> Self {
        let reloaded =
            SETTINGS.iter().filter(|setting| [WEBHOOK_TOKEN, CLIENT_SECRET, ADMIN_TOKEN].contains(&setting.name));
        let files = reloaded.filter_map(|setting| Some((setting, source.file_of(setting.name)?)));
        let files = files.filter(|(_, path)| path.is_file()).collect();
        let files = Self { files, digests: Digests::new() };
        Self { digests: files.read().digests(), ..files }
    }

    /// What they held at first.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads all of them. Blocks on the disk.
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

/// What the files held, or why they could not be read.
pub struct Contents(BTreeMap<&'static str, Result<String, Problem>>);

/// A digest of what each file held, by the name of the setting. It tells whether something changed.
pub type Digests = BTreeMap<&'static str, [u8; 32]>;

impl Contents {
    /// What they held, as digests.
    #[must_use]
    pub fn digests(&self) -> Digests {
        let digest = |content: &Result<String, Problem>| match content {
            Ok(text) => Sha256::new().chain_update([0]).chain_update(text).finalize().into(),
            Err(problem) => Sha256::new().chain_update([1]).chain_update(problem.to_string()).finalize().into(),
        };
        self.0.iter().map(|(name, content)| (*name, digest(content))).collect()
    }

    /// The secrets with these contents in place of what is in `before`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them; then `before` should stay in use.
    pub fn parse(self, before: &Secrets) -> Result<Secrets, ConfigError> {
        let mut problems = Problems(Vec::new());
        let mut after = before.clone();
        for (name, content) in self.0 {
            let text = match content {
                Ok(text) => text,
                Err(problem) => {
                    problems.0.push(problem);
                    continue;
                }
            };
            match name {
                WEBHOOK_TOKEN => {
                    let tokens = problems.parse(name, Some(&text), WebhookToken::parse_list);
                    after.webhook_token = tokens.unwrap_or_default();
                }
                CLIENT_SECRET => {
                    let secrets = problems.parse(name, Some(&text), ClientSecret::parse_list);
                    after.sentry_client_secret = secrets.unwrap_or_default();
                }
                _ => {
                    let tokens = problems.parse(name, Some(&text), AdminToken::parse_list);
                    after.admin_token = tokens.unwrap_or_default();
                }
            }
        }
        problems.check(ADMIN_TOKEN, secrets::are_apart(&after.admin_token, &after.webhook_token));
        if problems.0.is_empty() { Ok(after) } else { Err(ConfigError::new(problems.0)) }
    }
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

    fn set_up(token: &Path, admin: &Path) -> (Secrets, SecretFiles) {
        let source = Source::variables([
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_WEBHOOK_TOKEN_FILE", token.to_str().unwrap()),
            ("BRIDGE_ADMIN_TOKEN_FILE", admin.to_str().unwrap()),
            ("BRIDGE_SENTRY_CLIENT_SECRET", "a-client-secret-of-sentry"),
        ]);
        (Secrets::of(&Config::load(&source).unwrap()), SecretFiles::of(&source))
    }

    #[test]
    fn what_is_wrong_with_a_new_value_is_said_without_it() {
        let home = tempfile::tempdir().unwrap();
        let [token, admin] = ["token", "admin"].map(|name| home.path().join(name));
        fs::write(&token, TOKEN).unwrap();
        fs::write(&admin, "an-admin-token-of-some-length").unwrap();
        let (before, files) = set_up(&token, &admin);
        let digests = files.read().digests();
        assert_eq!(digests.keys().copied().collect::<Vec<_>>(), [ADMIN_TOKEN, WEBHOOK_TOKEN]);
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
}
