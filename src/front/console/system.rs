//! The system as `doctor` sees it, the configuration in effect, and compliance reports.

use http::{HeaderValue, StatusCode, header};
use maud::html;
use serde_json::json;

use super::layout::{self, cell, state};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::front::admin::AdminCall;
use crate::front::compliance::ReportWish;
use crate::kernel::text::visible;
use crate::ops::failure::Failure;
use crate::report::Format;
use crate::report::framework::Framework;

impl Console {
    pub(super) fn system(&self, who: &Who) -> Result<Answer, Failure> {
        let status = self.call(who, AdminCall::Status {})?;
        let doctor = self.call(who, AdminCall::Doctor {})?;
        let body = html! {
            (layout::facts(&[
                ("Party", cell(&status["party"])), ("HSM", state(status["hsm"].as_str().unwrap_or_default())),
                ("Workers", cell(&status["hsm_workers"])), ("Agents’ connections", cell(&status["connections"])),
                ("Payments", state(status["payments"]["state"].as_str().unwrap_or_default())),
                ("Log", html! { (cell(&status["log"]["size"])) " leaves, " (cell(&status["log"]["lag"])) " unsigned" }),
                ("Version", html! { (env!("CARGO_PKG_VERSION")) }),
            ]))
            @if let Some(missing) = status["missing"].as_array().filter(|missing| !missing.is_empty()) {
                div.notice.bad { @for one in missing { p { (cell(one)) } } }
            }
            h2 { "Doctor" }
            (layout::table("Checks", &["Check", "Result", "Detail"], &layout::items(&doctor).iter().map(|one| vec![
                cell(&one["check"]), state(one["result"].as_str().unwrap_or_default()), cell(&one["detail"]),
            ]).collect::<Vec<_>>(), "Nothing was checked."))
            h2 { "Configuration in effect" }
            p.muted { "With every default written out. Secrets stand in files and in the HSM; what an address carries of one is masked." }
            pre tabindex="0" { (visible(&self.config).replace("\\u{a}", "\n")) }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "System", "/system", &body)))
    }

    pub(super) fn compliance(&self, who: &Who) -> Result<Answer, Failure> {
        let body = html! {
            p { "A report says what this bank does about each control of a framework, from the running system, tied to a signed checkpoint. That it was made has its leaf." }
            form.card method="post" action="/compliance" {
                (layout::token(who))
                div.fields {
                    label { "Framework" select name="framework" { @for framework in Framework::ALL { option value=(json!(framework).as_str().unwrap_or_default()) { (framework.slug()) } } } }
                    label { "Format" select name="format" { @for format in Format::ALL { option value=(json!(format).as_str().unwrap_or_default()) { (json!(format).as_str().unwrap_or_default()) } } } }
                    label.choice { input type="checkbox" name="deep" value="yes"; " Rebuild the whole log for it (may take long)" }
                    button type="submit" { "Make the report" }
                }
            }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Compliance", "/compliance", &body)))
    }

    /// A report as a file: it has styles of its own, which no page of ours may run.
    pub(super) fn report(&self, who: &Who, fields: &Fields) -> Result<Answer, Failure> {
        let needed = |name: &str| Failure::usage("field_missing", format!("{name} is empty"), "choose one");
        let framework = fields.typed("framework")?.ok_or_else(|| needed("framework"))?;
        let format: Format = fields.typed("format")?.ok_or_else(|| needed("format"))?;
        let deep = fields.text("deep").is_some();
        let made = self.call(who, AdminCall::ReportCompliance(ReportWish { framework, format, deep }))?;
        let (media, extension) = match format {
            Format::Html => ("text/html; charset=utf-8", "html"),
            Format::Json => ("application/json", "json"),
            Format::Oscal => ("application/json", "oscal.json"),
        };
        let mut answer = web::answer(StatusCode::OK, media, made["file"].as_str().unwrap_or_default().to_owned());
        let name = format!("attachment; filename=\"{}.{extension}\"", json!(framework).as_str().unwrap_or("report"));
        let name = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment"));
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        Ok(answer)
    }
}
