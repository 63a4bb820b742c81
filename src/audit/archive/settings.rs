//! `[audit.archive]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::types::CredentialName;

/// Where the log is archived, and for how long nobody may delete it there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveSettings {
    /// `file:<directory>`, relative ones inside the state directory, or `s3://<bucket>[/<prefix>]`.
    pub url: String,
    /// Between two checkpoints that are archived, with all tiles below them.
    pub interval_s: u32,
    /// The S3 server. None: Amazon's of the region.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key_id: Option<String>,
    pub secret_key_file: Option<PathBuf>,
    pub secret_key_credential: Option<String>,
    /// A credential of the vault; it is read again when it is rotated.
    pub secret_key_vault: Option<CredentialName>,
    /// The only roots that are trusted (PEM); none: the system's.
    pub root_file: Option<PathBuf>,
    /// For one object.
    pub timeout_ms: u64,
    /// S3 object lock on everything that is archived.
    pub lock: Option<LockSettings>,
}

/// How an object is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSettings {
    pub mode: LockMode,
    /// From the moment at which the object is written.
    pub days: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Whoever has `s3:BypassGovernanceRetention` can still delete.
    Governance,
    /// Nobody can, the account's root included.
    Compliance,
}

impl LockMode {
    /// As S3 writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            url: "file:tiles".into(),
            interval_s: 60,
            endpoint: None,
            region: "us-east-1".into(),
            access_key_id: None,
            secret_key_file: None,
            secret_key_credential: None,
            secret_key_vault: None,
            root_file: None,
            timeout_ms: 10_000,
            lock: None,
        }
    }
}

/// What a URL names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Absolute, or inside the state directory.
    Directory(PathBuf),
    Bucket {
        bucket: String,
        /// Empty, or without a slash at either end.
        prefix: String,
    },
}

impl ArchiveSettings {
    /// # Errors
    /// A sentence that names the key.
    pub fn target(&self) -> Result<Target, String> {
        if let Some(path) = self.url.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.split('/').any(|part| part == "..") {
                return Err("audit archive url: file: is followed by a directory without ..".into());
            }
            return Ok(Target::Directory(path.into()));
        }
        let rest = self.url.strip_prefix("s3://").ok_or("audit archive url is file:DIRECTORY or s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) {
            return Err("audit archive url: a bucket has 3 to 63 lower-case letters, digits, '-' and '.'".into());
        }
        let prefix = prefix.trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if !prefix.bytes().all(plain) || (!prefix.is_empty() && prefix.split('/').any(odd)) {
            return Err("audit archive url: a prefix has letters, digits, '-', '_', '.' and single '/'".into());
        }
        Ok(Target::Bucket { bucket: bucket.into(), prefix: prefix.into() })
    }

    /// The server's URL.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn server(&self) -> Result<reqwest::Url, String> {
        let text = self.endpoint.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.region));
        let url = reqwest::Url::parse(&text).map_err(|error| format!("audit archive endpoint: {error}"))?;
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_loopback = host == "localhost" || literal.is_ok_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            _ => {
                return Err("audit archive endpoint: https://… is expected; plain http is for the loopback only".into());
            }
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.path() != "/" {
            return Err("audit archive endpoint: https://HOST[:PORT] and nothing else".into());
        }
        Ok(url)
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=86_400).contains(&self.interval_s) {
            return Err("audit archive interval_s must be 1 to 86400".into());
        }
        if !(100..=600_000).contains(&self.timeout_ms) {
            return Err("audit archive timeout_ms must be 100 to 600000".into());
        }
        if self.lock.is_some_and(|lock| !(1..=36_500).contains(&lock.days)) {
            return Err("audit archive lock: days must be 1 to 36500".into());
        }
        let secrets =
            [self.secret_key_file.is_some(), self.secret_key_credential.is_some(), self.secret_key_vault.is_some()];
        let secrets = secrets.into_iter().filter(|given| *given).count();
        match self.target()? {
            Target::Directory(_) => {
                let server = [self.endpoint.is_some(), self.access_key_id.is_some(), self.root_file.is_some()];
                if secrets > 0 || server.contains(&true) {
                    return Err("audit archive: endpoint, keys and root_file are for an s3:// url".into());
                }
                if self.lock.is_some() {
                    return Err("audit archive lock is for an s3:// url: a directory has no object lock".into());
                }
            }
            Target::Bucket { .. } => {
                self.server()?;
                if self.access_key_id.as_deref().is_none_or(str::is_empty) || secrets != 1 {
                    let keys = "access_key_id, and one of secret_key_vault, secret_key_file and secret_key_credential";
                    return Err(format!("audit archive: an s3:// url needs {keys}"));
                }
                let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                if self.region.is_empty() || !self.region.bytes().all(is_region) {
                    return Err("audit archive region has lower-case letters, digits and '-'".into());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: &str = "url = \"s3://bank-log/proof\"\nendpoint = \"https://s3.bank.example\"\nregion = \"eu-1\"\n\
        access_key_id = \"AKIA\"\nsecret_key_file = \"secrets/s3\"\nlock = { mode = \"compliance\", days = 2555 }\n";

    fn checked(text: &str) -> Result<(), String> {
        toml::from_str::<ArchiveSettings>(text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn sections_that_break_a_rule_are_refused_with_the_key() {
        assert_eq!(checked(""), Ok(()));
        assert_eq!(checked(S3), Ok(()));
        assert_eq!(checked("url = \"file:///srv/worm\""), Ok(()));
        for (from, to, says) in [
            ("s3://bank-log/proof", "gs://bank-log", "url is file:DIRECTORY or s3://"),
            ("s3://bank-log/proof", "s3://", "a bucket has"),
            ("s3://bank-log/proof", "s3://Bank", "a bucket has"),
            ("s3://bank-log/proof", "s3://bank-log//x", "a prefix has"),
            ("s3://bank-log/proof", "s3://bank-log/../x", "a prefix has"),
            ("s3://bank-log/proof", "s3://bank-log/a b", "a prefix has"),
            ("https://s3.bank.example", "http://s3.bank.example", "plain http is for the loopback only"),
            ("https://s3.bank.example", "https://user@s3.bank.example", "and nothing else"),
            ("https://s3.bank.example", "https://s3.bank.example/path", "and nothing else"),
            ("https://s3.bank.example", "not a url", "endpoint:"),
            ("\"eu-1\"", "\"\"", "region"),
            ("access_key_id = \"AKIA\"\n", "", "needs access_key_id"),
            ("secret_key_file = \"secrets/s3\"\n", "", "one of secret_key_vault"),
            ("region", "secret_key_credential = \"s3\"\nregion", "one of secret_key_vault"),
            ("region", "secret_key_vault = \"audit/s3\"\nregion", "one of secret_key_vault"),
            ("days = 2555", "days = 0", "days must be 1 to 36500"),
            ("compliance", "forever", "unknown variant"),
            ("region", "colour = 1\nregion", "unknown field"),
            ("region", "interval_s = 0\nregion", "interval_s"),
            ("region", "timeout_ms = 1\nregion", "timeout_ms"),
            ("s3://bank-log/proof", "file:tiles", "are for an s3:// url"),
        ] {
            let said = checked(&S3.replacen(from, to, 1)).expect_err(to);
            assert!(said.contains(says), "{to}: {said}");
        }
        for (text, says) in [
            ("url = \"file:\"", "a directory without"),
            ("url = \"file:../x\"", "a directory without"),
            ("lock = { mode = \"compliance\", days = 1 }", "a directory has no object lock"),
        ] {
            let said = checked(text).expect_err(text);
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
