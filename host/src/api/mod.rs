//! The HTTP API: one operation a file.
//!
//! It reads the store, and uses the rest of the host through the small traits of
//! [`ports`], so it names neither Kafka nor Wasm. It refuses unknown fields,
//! parameters and content types with a [`problem`], and every operation names the
//! role that it needs ([`auth`]).
//!
//! Senders use [`messages`] and [`transactions`]; operators use [`deliveries`],
//! [`groups`] and [`plugins`]. Every request passes through `guard` and `intake`.

pub mod answers;
mod app;
pub mod audit;
pub mod auth;
mod causes_in_scope;
mod changes;
mod console;
pub mod dead_letters;
pub mod deliveries;
pub mod events;
pub mod failures;
pub mod groups;
mod guard;
pub mod health;
pub mod intake;
pub mod list;
pub mod lost_ranges;
pub mod messages;
pub mod nodes;
mod open_mode;
pub mod openapi;
pub mod outboxes;
pub mod overview;
pub mod params;
mod per_token;
pub mod plugins;
pub mod ports;
pub mod problem;
pub mod rate_limit;
mod reads;
pub mod redrives;
mod request_turns;
pub mod sessions;
mod shape;
pub mod shown;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_groups;
#[cfg(test)]
mod tests_of_handled_sets;
#[cfg(test)]
mod tests_of_identity;
#[cfg(test)]
mod tests_of_people;
#[cfg(test)]
mod tests_of_roles;
#[cfg(test)]
mod tests_of_undelivered;
pub mod transactions;
pub mod undelivered;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::app::App;
use self::problem::Problem;

/// The whole API.
pub fn router(app: App) -> Router {
    let (router, mut document) = operations().split_for_parts();
    openapi::name_operations(&mut document);
    openapi::serve(router, &document)
        .fallback(console::serve)
        .method_not_allowed_fallback(unknown_method)
        // Counts the whole response, before compression.
        .layer(middleware::from_fn(answers::hold))
        // Lists repeat the same words in many rows. Small responses, images and
        // event streams are not compressed.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        // The outermost layer reads the rest of the request once the response is
        // ready; it has its own time limit.
        .layer(middleware::from_fn_with_state(app.clone(), guard::watch))
        .layer(middleware::from_fn(intake::drain))
        .with_state(app)
}

/// The description of the whole API, without a host.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = operations().split_for_parts().1;
    openapi::name_operations(&mut document);
    document
}

/// The operations with their descriptions.
fn operations() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(messages::list::list, messages::publish::publish))
        .routes(routes!(messages::show::show, messages::cancel::cancel))
        .routes(routes!(messages::delayed::delayed))
        .routes(routes!(messages::resend::resend))
        .routes(routes!(transactions::list::list, transactions::prepare::prepare))
        .routes(routes!(transactions::show::show))
        .routes(routes!(transactions::end::commit))
        .routes(routes!(transactions::end::rollback))
        .routes(routes!(deliveries::list::list))
        .routes(routes!(deliveries::show::show))
        .routes(routes!(deliveries::retry::retry))
        .routes(routes!(deliveries::give_up::give_up))
        .routes(routes!(groups::list::list))
        .routes(routes!(groups::show::show))
        .routes(routes!(groups::pause::pause))
        .routes(routes!(groups::pause::resume))
        .routes(routes!(groups::seek::seek))
        .routes(routes!(groups::parked::parked))
        .routes(routes!(outboxes::list::list))
        .routes(routes!(redrives::list::list, redrives::plan::plan))
        .routes(routes!(redrives::show::show, redrives::cancel::cancel))
        .routes(routes!(redrives::items::items))
        .routes(routes!(redrives::run::run))
        .routes(routes!(redrives::run::pause))
        .routes(routes!(plugins::list::list))
        .routes(routes!(plugins::show::show, plugins::upload::upload))
        .routes(routes!(plugins::activate::activate))
        .routes(routes!(overview::overview))
        .routes(routes!(failures::list))
        .routes(routes!(dead_letters::list))
        .routes(routes!(lost_ranges::list))
        .routes(routes!(undelivered::list::list))
        .routes(routes!(undelivered::show::show))
        .routes(routes!(undelivered::resend::resend))
        .routes(routes!(undelivered::repair::repair))
        .routes(routes!(undelivered::give_up::give_up))
        .routes(routes!(nodes::list))
        .routes(routes!(audit::list::list))
        .routes(routes!(audit::verify::verify))
        .routes(routes!(sessions::me::me))
        .routes(routes!(sessions::open::open, sessions::close::close))
        .routes(routes!(events::events))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not something {} does; /openapi.json lists what it does", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", detail)
}
