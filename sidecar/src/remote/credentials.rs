//! Credentials: `<secret name>/<key>` files as a Secret volume has them, re-read when they change.
//!
//! Values live in memory only and are never printed: [`Secret`] has no `Debug` of its content, and
//! errors name files, not what is in them. A secret that is not there yet is not an error at start;
//! requests say so until it appears (a Secret volume may be filled late).

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
/// Session tokens are a few KiB.
const MAX_BYTES: u64 = 64 << 10;

/// All secrets that mounts refer to.
pub struct Secrets {
    directory: PathBuf,
    known: Mutex<HashMap<String, Arc<Secret>>>,
}

/// One secret, as it was last read.
pub struct Secret {
    directory: PathBuf,
    value: ArcSwap<Result<Credentials, String>>,
}

impl Secrets {
    /// Secrets below `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, known: Mutex::default() }
    }

    /// The secret `name`, read now if it is new.
    #[must_use]
    pub fn get(&self, name: &str) -> Arc<Secret> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.directory.join(name);
        let secret = || {
            let value = ArcSwap::from_pointee(read(&directory));
            Arc::new(Secret { directory: directory.clone(), value })
        };
        Arc::clone(known.entry(name.to_owned()).or_insert_with(secret))
    }

    /// Reads every known secret again; answers the names of those that changed.
    pub fn refresh(&self) -> Vec<String> {
        let known: Vec<(String, Arc<Secret>)> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(name, secret)| (name.clone(), Arc::clone(secret))).collect()
        };
        known.into_iter().filter(|(_, secret)| secret.refresh()).map(|(name, _)| name).collect()
    }
}

impl Secret {
    fn refresh(&self) -> bool {
        let new = read(&self.directory);
        let old = self.value.load();
        let same = match (&**old, &new) {
            (Ok(old), Ok(new)) => {
                old.access_key_id() == new.access_key_id()
                    && old.secret_access_key() == new.secret_access_key()
                    && old.session_token() == new.session_token()
            }
            (Err(old), Err(new)) => old == new,
            _ => false,
        };
        if !same {
            self.value.store(Arc::new(new));
        }
        !same
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl ProvideCredentials for Secret {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let value = self.value.load();
        future::ProvideCredentials::ready(match &**value {
            Ok(credentials) => Ok(credentials.clone()),
            Err(problem) => Err(CredentialsError::not_loaded(problem.clone())),
        })
    }
}

fn read(directory: &Path) -> Result<Credentials, String> {
    let value = |key: &str| {
        let file = directory.join(key);
        let problem = |what: &str| format!("{} {what}: correct it in the Secret", file.display());
        match std::fs::metadata(&file) {
            // Opening a pipe would wait for ever.
            Ok(meta) if !meta.is_file() => return Err(problem("is not a file")),
            Ok(meta) if meta.len() > MAX_BYTES => return Err(problem("is larger than any credential")),
            Err(error) if error.kind() == NotFound => return Ok(None),
            _ => {}
        }
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        // A Secret written with `echo` ends in a newline that is no part of it.
        let text = text.trim_end();
        if text.chars().any(char::is_control) {
            return Err(problem("holds a line break or another control character"));
        }
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    };
    let required = |key: &str| {
        value(key)?
            .ok_or_else(|| format!("{} is missing or empty: add it to the Secret", directory.join(key).display()))
    };
    let (access, secret) = (required(ACCESS_KEY)?, required(SECRET_KEY)?);
    Ok(Credentials::new(access, secret, value(SESSION_TOKEN)?, None, "secretRef"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tempdir() -> PathBuf {
        let directory = std::env::temp_dir().join(format!("remotemount-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secrets = Secrets::new("/nowhere".into());
        let text = format!("{:?}", secrets.get("s3-creds"));
        assert!(text.contains("s3-creds") && !text.contains("value"), "{text}");
        let directory = tempdir();
        for (value, told) in [("AK\nIA", "line break"), ("AK\u{7}", "control character"), ("  \n", "missing or empty")]
        {
            std::fs::write(directory.join(ACCESS_KEY), value).unwrap();
            assert!(
                read(&directory).is_err_and(|problem| problem.contains(told) && !problem.contains(value)),
                "{value:?}"
            );
        }
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(read(Path::new("/nowhere")).is_err_and(|problem| problem.contains(ACCESS_KEY)));
    }
}
