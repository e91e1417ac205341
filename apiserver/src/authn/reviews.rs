//! TokenReview and SelfSubjectReview: asking the server who somebody is.

use jiff::Timestamp;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::union::in_authenticated;
use super::{Authenticated, TokenAuthenticator, Tokens};
use crate::user::UserInfo;

/// Completes a decoded TokenReview with its status.
pub async fn token_review(tokens: &Tokens, mut review: Value) -> Result<Value, Status> {
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let audiences = if asked.is_empty() { tokens.audiences() } else { &asked };
    review["status"] = match tokens.authenticate_token(&token, audiences).await {
        Ok(Some(found)) => {
            let Authenticated { user, audiences: matched } = in_authenticated(found);
            // A token without audiences is good for whoever asks.
            let matched = if matched.is_empty() { audiences.to_vec() } else { matched };
            json!({"authenticated": true, "user": user_info(&user), "audiences": matched})
        }
        Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
        Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    };
    Ok(review)
}

/// Completes a decoded SelfSubjectReview with who asks.
pub fn self_subject_review(user: &UserInfo, mut review: Value, now: Timestamp) -> Value {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    review["metadata"] = json!({"creationTimestamp": now.to_string()});
    review["status"] = json!({"userInfo": user_info(user)});
    review
}

fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
