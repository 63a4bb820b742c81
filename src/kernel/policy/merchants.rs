//! The merchants that a bank's settings allow, with what a comparison of another one with them needs made once.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::look_alike::Known;
use crate::kernel::types::MerchantId;

/// Merchants that one that is not on the list is compared with. With a longer list it is refused all the same, and
/// perhaps not told that it imitates one behind them.
const COMPARED_MAX: usize = 1_000;

/// Merchants in the order of the settings; a copy shares what was made of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<MerchantId>", into = "Vec<MerchantId>")]
pub struct MerchantList(Arc<Listed>);

#[derive(Debug, Default)]
struct Listed {
    names: Vec<MerchantId>,
    by_name: HashSet<MerchantId>,
    known: Known,
}

impl MerchantList {
    pub fn names(&self) -> &[MerchantId] {
        &self.0.names
    }

    pub fn contains(&self, merchant: &MerchantId) -> bool {
        self.0.by_name.contains(merchant)
    }

    /// The first of the list that `merchant` looks like without being it.
    pub fn imitated_by(&self, merchant: &MerchantId) -> Option<&MerchantId> {
        self.0.known.imitated(merchant.as_str()).and_then(|place| self.0.names.get(place))
    }
}

impl From<Vec<MerchantId>> for MerchantList {
    fn from(names: Vec<MerchantId>) -> Self {
        let known = Known::of(names.iter().take(COMPARED_MAX));
        Self(Arc::new(Listed { by_name: names.iter().cloned().collect(), known, names }))
    }
}

impl From<MerchantList> for Vec<MerchantId> {
    fn from(list: MerchantList) -> Self {
        list.0.names.clone()
    }
}

/// Two lists of the same merchants in the same order are equal.
impl PartialEq for MerchantList {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for MerchantList {}
