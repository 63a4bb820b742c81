//! Subscriptions that stand before they are acknowledged: the library says so to the client before it asks the handler
//! (rmcp 3.9), and what changes in between nobody would hear of. What a subscription rests on is laid as soon as the
//! request is there, and travels with it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use rmcp::model::{
    ClientNotification, ClientRequest, ErrorData, ProtocolVersion, ServerConfig, ServerResult, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, RequestContext, Service, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde::Deserialize;

/// The method, also in the header that every request of 2026-07-28 has.
pub(super) const LISTEN: &str = "subscriptions/listen";

/// A server whose subscriptions rest on something: an earlier look, or a subscription of its own.
pub(super) trait Stands: ServerHandler {
    type Ground: Send + 'static;

    /// From here on nothing is missed. `extensions`: of the HTTP request, if it came with one. An error ends the
    /// subscription as soon as it is acknowledged.
    fn stand(
        &self,
        requested: &SubscriptionFilter,
        extensions: &http::Extensions,
    ) -> impl Future<Output = Result<Self::Ground, ErrorData>> + Send;
}

/// For one taker.
struct Ground<G>(Arc<Mutex<Option<Result<G, ErrorData>>>>);

impl<G> Clone for Ground<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G> Ground<G> {
    fn of(laid: Result<G, ErrorData>) -> Self {
        Self(Arc::new(Mutex::new(Some(laid))))
    }

    fn take(&self) -> Option<Result<G, ErrorData>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What was laid for this subscription.
///
/// # Errors
/// Why there is none.
pub(super) fn ground<G: Send + 'static>(subscription: &SubscriptionContext) -> Result<G, ErrorData> {
    let extensions = &subscription.request_context().extensions;
    let over_http = || extensions.get::<http::request::Parts>()?.extensions.get::<Ground<G>>();
    let laid = extensions.get::<Ground<G>>().or_else(over_http).and_then(Ground::take);
    laid.unwrap_or_else(|| Err(ErrorData::internal_error("nothing was laid for this subscription", None)))
}

#[derive(Deserialize)]
struct Listen {
    params: Wanted,
}

#[derive(Deserialize)]
struct Wanted {
    notifications: SubscriptionFilter,
}

/// The request, with its ground if it asks for a subscription. What it has to say for that is judged by the library.
pub(super) async fn with_ground<H: Stands>(server: &H, request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    if request.headers().get("mcp-method").is_none_or(|method| method != LISTEN) {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes());
    if let Ok(listen) = serde_json::from_slice::<Listen>(&body) {
        let laid = server.stand(&listen.params.notifications, &parts.extensions).await;
        parts.extensions.insert(Ground::of(laid));
    }
    Request::from_parts(parts, Full::new(body))
}

/// The same for a server on a transport that has no requests of HTTP.
pub(super) struct Standing<H>(pub H);

impl<H: Stands> Service<RoleServer> for Standing<H> {
    async fn handle_request(
        &self,
        request: ClientRequest,
        mut context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        if let ClientRequest::SubscriptionsListenRequest(listen) = &request {
            let none = http::Extensions::new();
            let laid = tokio::select! {
                laid = self.0.stand(&listen.params.notifications, &none) => laid,
                () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled by its caller", None)),
            };
            context.extensions.insert(Ground::of(laid));
        }
        self.0.handle_request(request, context).await
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.handle_notification(notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        Service::get_info(&self.0)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Service::supported_protocol_versions(&self.0)
    }
}
