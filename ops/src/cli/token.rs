//! `token`: who may call the HTTP API.

use chrono::Utc;
use clap::{Args, Subcommand};
use longhaul_schema::{
    Span,
    calls::{NewToken, Scope, TokenInfo},
};
use serde_json::json;

use super::{
    Context, Failure,
    operate::actor,
    output::{Cell, state},
    terminal,
};
use crate::serve::secret::Secret;

/// Commands below `token`.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token, and print it: it is shown this once.
    #[command(after_help = "\
Examples:
  longhaul token create grafana
  longhaul token create anna --scope operate --expires 90d
  longhaul token create shop --scope operate --for-tenant shop
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:7070/api/v1/overview

As soon as there is a token, nobody comes in without one. What is done with a
token is done by its name.")]
    Create(Create),
    /// List the tokens. Their secrets are not kept.
    List,
    /// Let a token count no more, from now on.
    Revoke {
        /// Name of the token.
        name: String,
    },
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose it is: a person or a program.
    name: String,
    /// What may be done with it: read; operate, to start and steer as well; admin, to delete and change limits and policies as well.
    #[arg(long, default_value = "read")]
    scope: Scope,
    /// Only for this tenant; may be given several times. For all by default.
    #[arg(long = "for-tenant", value_name = "NAME")]
    tenants: Vec<String>,
    /// It counts for this time, as in 90d; for ever by default.
    #[arg(long, value_name = "TIME")]
    expires: Option<Span>,
}

impl Token {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.connection.client().await?;
        let calls = client.database().calls().await?;
        let output = context.output;
        match self {
            Self::Create(create) => {
                let secret = Secret::random();
                let expires_at = create.expires.map(|span| Utc::now() + span.as_duration());
                let by = actor(None);
                let token = NewToken {
                    id: secret.id(),
                    name: &create.name,
                    hash: &secret.hash(),
                    scope: create.scope,
                    tenants: (!create.tenants.is_empty()).then_some(&create.tenants),
                    expires_at,
                    by: by.as_deref(),
                };
                calls.make_token(&token).await?;
                if output.json {
                    output.json(&json!({ "name": create.name, "token": secret.shown(), "expires_at": expires_at }));
                } else {
                    output.line(&secret.shown());
                    terminal::tell("it is shown this once");
                }
            }
            Self::List => list(context, &calls.list_tokens().await?),
            Self::Revoke { name } => {
                let changed = calls.revoke_token(&name).await?;
                if output.json {
                    output.json(&json!({ "token": name, "changed": changed }));
                } else {
                    let word = if changed { "counts no more" } else { "was revoked already" };
                    output.line(&format!("token {name} {word}."));
                }
            }
        }
        Ok(())
    }
}

fn list(context: &Context, tokens: &[TokenInfo]) {
    let verdict = |token: &TokenInfo| match token.expires_at {
        _ if token.revoked_at.is_some() => "revoked",
        Some(end) if end < Utc::now() => "expired",
        _ => "active",
    };
    if context.output.json {
        for t in tokens {
            context.output.json(&json!({
                "name": t.name, "scope": t.scope.as_str(), "tenants": t.tenants, "state": verdict(t), "created_at": t.created_at,
                "created_by": t.created_by, "expires_at": t.expires_at, "revoked_at": t.revoked_at, "last_used_at": t.last_used_at,
            }));
        }
        return;
    }
    let rows = tokens.iter().map(|t| {
        vec![
            Cell::new(&t.name),
            Cell::new(t.scope.as_str()),
            Cell::new(t.tenants.as_ref().map_or("all".into(), |tenants| tenants.join(", "))),
            state(verdict(t)),
            Cell::time(t.created_at),
            Cell::new(&t.created_by),
            Cell::time(t.expires_at),
            Cell::time(t.last_used_at),
        ]
    });
    context.output.table(&["NAME", "SCOPE", "TENANTS", "STATE", "MADE", "BY", "EXPIRES", "LAST USED"], rows.collect());
}
