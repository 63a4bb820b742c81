//! `[store]`

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// `sqlite:<path>`; relative paths start at the state directory.
    #[serde(default = "url_default")]
    pub url: String,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { url: url_default() }
    }
}

fn url_default() -> String {
    "sqlite:store/store.sqlite3".into()
}
