//! The way to an S3 server: requests that `object_store` composes, sent from here.
//!
//! Why not its own client: object lock has no option there, and each header of it has to be under the signature; and a
//! confined front looks up no names. So requests come unsigned, get the lock that they carry as an extension, are signed
//! (AWS Signature Version 4) and go to the addresses that were found when the daemon started.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
};
use secrecy::ExposeSecret;

use crate::ops::secret::SecretSlot;
use crate::tls::asking;

/// The longest answer: an object, or an error's text.
const ANSWER_BYTES_MAX: usize = 2 << 20;
pub(super) const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
pub(super) const UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
/// A bucket with object lock takes nothing without a checksum.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
/// It is named besides; some servers do not look for it otherwise.
const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-sdk-checksum-algorithm");

/// What an object is locked with; an extension of its request.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    pub mode: HeaderValue,
    pub until: HeaderValue,
}

/// One server and who asks there.
pub(super) struct Door {
    client: reqwest::Client,
    key_id: String,
    /// Looked at for each request: the vault may hand in another one.
    secret: SecretSlot,
    region: String,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(client: reqwest::Client, key_id: String, secret: SecretSlot, region: String) -> Arc<Self> {
        Arc::new(Self { client, key_id, secret, region })
    }

    /// Signs and sends.
    pub(super) async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        if let Some(Lock { mode, until }) = parts.extensions.get::<Lock>().cloned() {
            parts.headers.insert(MODE, mode);
            parts.headers.insert(UNTIL, until);
        }
        if parts.headers.contains_key(CHECKSUM) {
            parts.headers.insert(ALGORITHM, HeaderValue::from_static("SHA256"));
        }
        let mut request = HttpRequest::from_parts(parts, HttpRequestBody::from(bytes.clone()));
        let secret = self.secret.value().ok_or_else(|| {
            let sealed = "the secret key is not to be had from the vault: see `countersign doctor`";
            HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(sealed))
        })?;
        let secret_key = secret.expose_secret().to_owned();
        let credential = AwsCredential { key_id: self.key_id.clone(), secret_key, token: None };
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let (parts, _) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string());
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut asked = reqwest::Request::new(parts.method, url);
        *asked.headers_mut() = parts.headers;
        *asked.body_mut() = Some(bytes.into());
        let answer = self.client.execute(asked).await.map_err(|error| failed(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = asking::body(answer, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|why| HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other(why)))?;
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Without the URL, and the innermost cause.
fn failed(error: &reqwest::Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, std::io::Error::other(asking::cause(error)))
}

/// [`Door`] as `object_store` knows it.
#[derive(Clone, Debug)]
pub(super) struct Way(pub Arc<Door>);

impl HttpService for Way {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.0.answer(request))
    }
}

impl HttpConnector for Way {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
