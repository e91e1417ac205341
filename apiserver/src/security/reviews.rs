//! Reviews and tokens as resources of the server.

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::Status;
use knarr_api::time::SharedClock;
use serde_json::Value;

use crate::authn::Tokens;
use crate::authn::reviews::{self_subject_review, token_review};
use crate::authn::service_account::{Request, TokenIssuer};
use crate::authz::reviews::{Kind, access_review, rules_review};
use crate::authz::{Rbac, SharedAuthorizer};
use crate::catalogue::{Answer, CreateSubresource, Extensions};
use crate::context::RequestContext;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

pub(super) fn extend(
    extensions: &mut Extensions,
    authorizer: &SharedAuthorizer,
    rbac: &Arc<Rbac>,
    tokens: &Arc<Tokens>,
    issuer: &Arc<TokenIssuer>,
    clock: &SharedClock,
) {
    let access = |about| Arc::new(Access { authorizer: authorizer.clone(), about });
    extensions.answer(AUTHORIZATION, "subjectaccessreviews", access(About::Subject));
    extensions.answer(AUTHORIZATION, "localsubjectaccessreviews", access(About::Local));
    extensions.answer(AUTHORIZATION, "selfsubjectaccessreviews", access(About::Own));
    extensions.answer(AUTHORIZATION, "selfsubjectrulesreviews", Arc::new(Rules(rbac.clone())));
    extensions.answer(AUTHENTICATION, "tokenreviews", Arc::new(Token(tokens.clone())));
    extensions.answer(AUTHENTICATION, "selfsubjectreviews", Arc::new(Myself(clock.clone())));
    extensions.create("serviceaccounts", "token", Arc::new(Issue(issuer.clone())));
}

#[derive(Clone, Copy)]
enum About {
    Subject,
    Local,
    Own,
}

struct Access {
    authorizer: SharedAuthorizer,
    about: About,
}

#[async_trait]
impl Answer for Access {
    async fn answer(&self, cx: &RequestContext, object: Value) -> Result<Value, Status> {
        let kind = match self.about {
            About::Subject => Kind::Subject,
            About::Local => Kind::Local { namespace: cx.namespace() },
            About::Own => Kind::Own(&cx.user),
        };
        access_review(&*self.authorizer, kind, object).await
    }
}

struct Rules(Arc<Rbac>);

#[async_trait]
impl Answer for Rules {
    async fn answer(&self, cx: &RequestContext, object: Value) -> Result<Value, Status> {
        rules_review(&self.0, &cx.user, &object)
    }
}

struct Token(Arc<Tokens>);

#[async_trait]
impl Answer for Token {
    async fn answer(&self, _: &RequestContext, object: Value) -> Result<Value, Status> {
        token_review(&self.0, object).await
    }
}

struct Myself(SharedClock);

#[async_trait]
impl Answer for Myself {
    async fn answer(&self, cx: &RequestContext, object: Value) -> Result<Value, Status> {
        Ok(self_subject_review(&cx.user, object, self.0.now()))
    }
}

struct Issue(Arc<TokenIssuer>);

#[async_trait]
impl CreateSubresource for Issue {
    async fn create(&self, cx: &RequestContext, name: &str, object: Value) -> Result<Value, Status> {
        self.0.issue(Request { namespace: cx.namespace(), name, object, remarks: &cx.remarks }).await
    }
}
