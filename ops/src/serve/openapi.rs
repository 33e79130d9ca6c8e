//! What all operations have in common, added to the description that is made from their handlers.

use utoipa::openapi::{
    ComponentsBuilder, HttpMethod, Object, OpenApi, RefOr, Required, Type,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    schema::ObjectBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

/// Name of the token among the ways to say who one is.
const TOKEN: &str = "token";

/// Adds ids, the tenant, the headers of acts and the token.
pub(super) fn complete(mut description: OpenApi) -> OpenApi {
    for (path, item) in &mut description.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(id(&method, path));
            if method != HttpMethod::Get {
                let parameters = operation.parameters.get_or_insert_default();
                parameters.extend(HEADERS.iter().map(|(name, meaning)| text(name, ParameterIn::Header, meaning)));
            }
        }
        item.parameters =
            Some(vec![text("tenant", ParameterIn::Query, "For this tenant; the caller's own by default.")]);
    }
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let components = description.components.take().unwrap_or_default();
    description.components = Some(ComponentsBuilder::from(components).security_scheme(TOKEN, scheme).build());
    // Without tokens none is needed.
    description.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
    description
}

const HEADERS: &[(&str, &str)] = &[
    ("Idempotency-Key", "The same request under the same key is carried out once within a day."),
    ("X-Reason", "Why; percent-encoded. It stands in the record of acts."),
    ("X-By", "Who, as long as no token is needed; percent-encoded."),
];

fn text(name: &str, place: ParameterIn, meaning: &str) -> RefOr<Parameter> {
    let schema: Object = ObjectBuilder::new().schema_type(Type::String).build();
    RefOr::T(
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(Required::False)
            .description(Some(meaning))
            .schema(Some(schema))
            .build(),
    )
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [
        (HttpMethod::Get, get),
        (HttpMethod::Put, put),
        (HttpMethod::Post, post),
        (HttpMethod::Delete, delete),
        (HttpMethod::Patch, patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// As in `post_queues_name_pause`: handlers of several files have the same names.
fn id(method: &HttpMethod, path: &str) -> String {
    let method = match method {
        HttpMethod::Put => "put",
        HttpMethod::Post => "post",
        HttpMethod::Delete => "delete",
        HttpMethod::Patch => "patch",
        _ => "get",
    };
    let words = path.trim_start_matches("/api/v1/").split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).fold(method.to_owned(), |id, word| format!("{id}_{word}"))
}
