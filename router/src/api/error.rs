//! Why requests fail, as answers and in logs.
#![forbid(unsafe_code)]

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::ANSWER_WITHIN;
use crate::config::{ConfigErrors, Style};

/// Why a request failed.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    error: String,
    help: Option<String>,
    /// What a log has in place of an error of many lines.
    log: Option<String>,
}

impl ApiError {
    /// The request is invalid (status 400).
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, error)
    }

    /// The request names something that does not exist (status 404).
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::of(StatusCode::NOT_FOUND, error)
    }

    /// The request conflicts with the router's state or configuration (status 409).
    pub fn conflict(error: impl Into<String>) -> Self {
        Self::of(StatusCode::CONFLICT, error)
    }

    /// The request is valid, but the machine cannot fulfil it now (status 500).
    pub fn environment(error: impl Into<String>) -> Self {
        Self::of(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// The configuration has mistakes (status 409): drawn as `nearhop check` draws them.
    pub fn mistakes(file: &str, errors: &ConfigErrors) -> Self {
        let count = errors.mistakes.len();
        let count = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
        let drawn = errors.render(Style::PLAIN);
        let error = format!("{file} has {count}, and the configuration in force stays\n\n{drawn}");
        let log = Some(errors.to_string());
        Self { log, ..Self::conflict(error.trim_end()) }
    }

    pub(super) fn of(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), help: None, log: None }
    }

    /// The error message.
    pub fn text(&self) -> &str {
        &self.error
    }

    /// The error as lines of a log.
    pub fn log_text(&self) -> &str {
        self.log.as_deref().unwrap_or(&self.error)
    }

    /// The router is shutting down (status 503).
    pub(super) fn ending() -> Self {
        Self::not_ready("the router is shutting down")
    }

    /// The router is not ready (status 503).
    pub fn not_ready(why: impl Into<String>) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// The control thread does not answer (status 503).
    pub(super) fn busy() -> Self {
        let error = format!("the router is busy: no answer within {} s", ANSWER_WITHIN.as_secs());
        Self::not_ready(error).with_help("try again")
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        let error = match rejection {
            PathRejection::FailedToDeserializePathParams(_) => {
                "the path is not UTF-8 where its % escapes are decoded"
            }
            _ => "the path cannot be read",
        };
        Self::bad_request(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "help": self.help }))).into_response()
    }
}
