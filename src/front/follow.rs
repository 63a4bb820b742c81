//! Follows the security company's lists: fetches them where it publishes, so that nobody carries files.
//!
//! A list is taken over as if an officer had imported it: verified under the anchors that are trusted here, never an older
//! one. What is fetched over plain HTTP proves itself; whoever holds it back makes our status stale, and then no agent is
//! served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ca::settings::PkiSettings;
use crate::front::services::Services;
use crate::kernel::command::Actor;
use crate::kernel::credential::crl::CRL_BYTES_MAX;
use crate::kernel::credential::pem::{self, Kind};
use crate::ops::failure::Failure;
use crate::tls;
use crate::tls::asking::{self, Place, Unresolved};

/// Between two looks: a list that has not changed costs a few hundred bytes.
const INTERVAL: Duration = Duration::from_secs(30);
/// For a list of many megabytes, too.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the lists are; `None` when nobody is followed. Looked up before the front is confined.
///
/// # Errors
/// `company_unresolvable`; `config_invalid` for what is no http URL.
pub fn source(settings: &PkiSettings, unresolved: Unresolved) -> Result<Option<Place>, Failure> {
    let Some(base) = &settings.company_pki_url else {
        return Ok(None);
    };
    let invalid = |why: &str| {
        let message = format!("[pki] company_pki_url: {why}");
        Failure::usage("config_invalid", message, "write http://HOST:PORT, without a path")
    };
    let url = reqwest::Url::parse(base).map_err(|error| invalid(&error.to_string()))?;
    if url.scheme() != "http" || url.path() != "/" {
        return Err(invalid("it is not http://HOST:PORT"));
    }
    Place::find(&url, "[pki] company_pki_url", "company_unresolvable", unresolved).map(Some)
}

/// Fetches until `stop`.
pub async fn follow(source: Place, services: Arc<Services>, stop: CancellationToken) {
    // Plain HTTP only; the TLS settings are there so that the machine's roots, which the front may not read, are not looked for.
    let client = match tls::asking_config(None, None).and_then(|config| source.client(config, TIMEOUT)) {
        Ok(client) => client,
        Err(failure) => {
            tracing::error!(name = %failure.name, message = %failure.message, "no list of the security company is fetched");
            return;
        }
    };
    let mut turns = tokio::time::interval(INTERVAL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // By issuer: the tag of the list that is in force.
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = stop.cancelled() => return,
        }
        if let Err(failure) = turn(&source, &client, &services, &mut tags).await {
            let Failure { name, message, .. } = failure;
            tracing::warn!(%name, %message, "the security company's list was not taken over");
        }
    }
}

async fn turn(
    source: &Place,
    client: &reqwest::Client,
    services: &Arc<Services>,
    tags: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    let mut first_failure = None;
    for issuer in services.setup.authority.other_issuers()? {
        // A list that is not there, of a CA that has not published yet, holds no other list up.
        if let Err(failure) = taken_over(source, client, services, tags, issuer).await {
            first_failure.get_or_insert(failure);
        }
    }
    first_failure.map_or(Ok(()), Err)
}

/// One issuer's list, unless it is the one that is known.
async fn taken_over(
    source: &Place,
    client: &reqwest::Client,
    services: &Arc<Services>,
    tags: &mut BTreeMap<String, String>,
    issuer: String,
) -> Result<(), Failure> {
    let known = tags.get(&issuer).map(String::as_str);
    let Some((list, tag)) = fetched(source, client, &issuer, known).await? else {
        return Ok(());
    };
    let turn = Arc::clone(services);
    let imported = tokio::task::spawn_blocking(move || {
        let actor = Actor::System { component: "follower".into() };
        turn.setup.authority.crl_import(&actor, &pem::encode(Kind::Crl, &list))
    });
    let imported = imported.await.map_err(|error| unreadable(&error.to_string()))??;
    tracing::info!(%issuer, number = %imported["number"], "the security company's list was taken over");
    tags.extend(tag.map(|tag| (issuer, tag)));
    Ok(())
}

/// The list and its tag; `None` when it is the one that is known.
async fn fetched(
    source: &Place,
    client: &reqwest::Client,
    issuer: &str,
    known: Option<&str>,
) -> Result<Option<(Vec<u8>, Option<String>)>, Failure> {
    let failed = |error: reqwest::Error| unreadable(&error.without_url().to_string());
    let mut request = client.get(format!("{}/crl/{issuer}.crl", source.base()));
    if let Some(known) = known {
        request = request.header(http::header::IF_NONE_MATCH, known);
    }
    let response = request.send().await.map_err(failed)?;
    if response.status() == http::StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    if response.status() != http::StatusCode::OK {
        return Err(unreadable(&format!("it answered {}", response.status())));
    }
    let tag = response.headers().get(http::header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let list = asking::body(response, CRL_BYTES_MAX).await.map_err(|why| unreadable(&why))?;
    Ok(Some((list, tag)))
}

fn unreadable(why: &str) -> Failure {
    Failure::busy(
        "company_list_unreachable",
        format!("the security company's list could not be fetched: {why}"),
        "check [pki] company_pki_url and that its daemon runs; until then `countersign crl import` takes a file",
    )
}
