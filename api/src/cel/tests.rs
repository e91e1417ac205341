//! Expressions by what they come to.

use serde_json::{Value as Json, json};

use super::*;

fn env() -> Environment {
    Environment::new().with("o", Type::Dyn)
}

fn run(source: &str, object: &Json) -> Result<Json, String> {
    let program = env().compile(source).map_err(|error| error.to_string())?;
    let mut activation = Activation::new();
    activation.set("o", Value::from_untyped(object));
    let value = program.evaluate(&activation, PER_CALL_LIMIT).result.map_err(|error| error.to_string())?;
    value.to_json().map_err(|error| error.to_string())
}

#[test]
fn expressions_come_to_what_upstream_says() {
    let object = json!({"a": 1, "s": "héllo", "l": [1, 2, 3], "m": {"x": "y"}, "n": null, "f": 1.5});
    let cases = [
        ("1 + 2 * 3", json!(7)),
        ("7 / 2", json!(3)),
        ("-7 % 3", json!(-1)),
        ("'a' + 'b'", json!("ab")),
        ("[1] + [2]", json!([1, 2])),
        ("dyn(1) == 1.0 && 2u > 1", json!(true)),
        ("o.a == 1 && o.f > o.a", json!(true)),
        ("has(o.a) && !has(o.zz)", json!(true)),
        ("o.zz == 1 || true", json!(true)),
        ("false && o.zz == 1", json!(false)),
        ("size(o.s)", json!(5)),
        ("o.s.size()", json!(5)),
        ("o.l.all(x, x > 0)", json!(true)),
        ("o.l.exists(x, x == 2)", json!(true)),
        ("o.l.exists_one(x, x > 2)", json!(true)),
        ("o.l.map(x, x * 2)", json!([2, 4, 6])),
        ("o.l.map(x, x > 1, x * 2)", json!([4, 6])),
        ("o.l.filter(x, x > 1)", json!([2, 3])),
        ("o.m.map(k, k)", json!(["x"])),
        ("'x' in o.m && 2 in o.l", json!(true)),
        ("o.m['x']", json!("y")),
        ("o.n == null", json!(true)),
        ("o.a > 0 ? 'p' : 'n'", json!("p")),
        ("o.?zz.orValue('d')", json!("d")),
        ("o.?m.?x.orValue('d')", json!("y")),
        ("o.?m.optMap(m, size(m)).orValue(0)", json!(1)),
        ("o[?'a'].hasValue()", json!(true)),
        ("optional.none().or(optional.of(2)).value()", json!(2)),
        ("{'a': 1, ?'b': o.?zz}", json!({"a": 1})),
        ("[?o.?zz, 1]", json!([1])),
        ("o.l.all(i, v, v == i + 1)", json!(true)),
        ("o.l.transformList(i, v, i * v)", json!([0, 2, 6])),
        ("o.m.transformMap(k, v, k + v)", json!({"x": "xy"})),
        ("o.m.transformMapEntry(k, v, {v: k})", json!({"y": "x"})),
        ("[3, 1, 2].sort()", json!([1, 2, 3])),
        ("['bb', 'a'].sortBy(e, size(e))", json!(["a", "bb"])),
        ("[1, 2, 2].distinct().size()", json!(2)),
        ("[[1], [2]].flatten()", json!([1, 2])),
        ("[1, 2, 3].slice(1, 3)", json!([2, 3])),
        ("[1, 2].isSorted() && [1, 2].sum() == 3 && [1, 2].max() == 2 && [1, 2].min() == 1", json!(true)),
        ("['a', 'b'].indexOf('b') == 1 && 'abcb'.lastIndexOf('b') == 3", json!(true)),
        ("'a,b'.split(',').join('-')", json!("a-b")),
        ("'hello'.substring(1, 3) + 'x'.upperAscii()", json!("elX")),
        ("'abc'.replace('b', 'x')", json!("axc")),
        ("'abc123'.find('[0-9]+') == '123' && 'abc'.matches('^a')", json!(true)),
        ("'a1b2'.findAll('[0-9]')", json!(["1", "2"])),
        ("'%d of %s: %.2f'.format([dyn(3), dyn(['a']), dyn(1.5)])", json!("3 of [\"a\"]: 1.50")),
        ("sets.contains([1, 2], [1]) && sets.intersects([1], [1, 2])", json!(true)),
        (
            "url('https://a.b:80/c?d=e').getHostname() == 'a.b' && url('https://a/c?d=e').getQuery()['d'] == ['e']",
            json!(true),
        ),
        ("isURL('https://a') && !isURL('nope')", json!(true)),
        ("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3')", json!(true)),
        ("ip.isCanonical('::1') && !isIP('1.2.3')", json!(true)),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && string(cidr('10.0.0.0/8').masked()) == '10.0.0.0/8'",
            json!(true),
        ),
        (
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1').add(2).asInteger() == 3",
            json!(true),
        ),
        ("semver('1.2.3').isLessThan(semver('v1.3', true)) && semver('1.2.3').minor() == 2", json!(true)),
        ("!format.dns1123Label().validate('my-name').hasValue()", json!(true)),
        ("format.named('dns1123Label').value().validate('X').value().size() > 0", json!(true)),
        ("duration('1h') == duration('60m') && duration('90s').getMinutes() == 1", json!(true)),
        (
            "timestamp('2024-03-01T12:00:00Z').getFullYear() == 2024 && timestamp('2024-03-01T12:00:00Z').getMonth() == 2",
            json!(true),
        ),
        (
            "timestamp('2024-03-01T12:00:00Z') - duration('24h') == timestamp('2024-02-29T12:00:00Z')",
            json!(true),
        ),
        ("string(duration('1500ms'))", json!("1.5s")),
        ("type(1) == int && type(o.s) == string", json!(true)),
        ("int('5') + int(2.9) == 7 && double('1.5') == 1.5 && string(1.0) == '1'", json!(true)),
        ("jsonpatch.escapeKey('a/b~c')", json!("a~1b~0c")),
        ("b'abc' == bytes('abc')", json!(true)),
        ("{'metadata': {'namespace': 'x'}}.metadata.namespace == 'x'", json!(true)),
        ("{'a-b': 1}.`a-b` == 1", json!(true)),
    ];
    let wrong = cases.into_iter().filter_map(|(source, wanted)| {
        let found = run(source, &object);
        (found != Ok(wanted)).then(|| format!("{source}: {found:?}"))
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_evaluated_says_why() {
    let object = json!({"a": 1, "l": []});
    for (source, wanted) in [
        ("o.zz", "no such key: zz"),
        ("o.l[0]", "index out of bounds: 0"),
        ("1 / (o.a - 1)", "division by zero"),
        ("9223372036854775807 + o.a", "integer overflow"),
        ("o.a + 'x'", "no such overload"),
        ("o.l.max()", "max called on empty list"),
        ("optional.none().value()", "optional.none() dereference"),
    ] {
        assert_eq!(run(source, &object), Err(wanted.to_owned()), "{source}");
    }
}

#[test]
fn faults_are_found_before_evaluation_and_shown_in_their_place() {
    let of = Type::object("T", [("x", Type::Int), ("s", Type::String)]);
    let env = Environment::new().with("self", of);
    let fault = |source: &str| env.compile(source).expect_err(source).to_string();
    assert_eq!(fault("self.z > 1"), "ERROR: <input>:1:5: undefined field 'z'\n | self.z > 1\n | ....^");
    assert!(
        fault("self.x > '1'").contains("found no matching overload for '_>_' applied to '(int, string)'")
    );
    assert!(
        fault("'a' + self.x").contains("found no matching overload for '_+_' applied to '(string, int)'")
    );
    assert!(fault("other.x").contains("undeclared reference to 'other' (in container '')"));
    assert!(fault("self.s.nope()").contains("undeclared reference to 'nope' (in container '')"));
    assert!(fault("[1, 'a']").contains("expected type 'int' but found 'string'"));
    assert!(fault("self.s.matches('(')").contains("invalid matches argument"));
    assert!(fault("self.x.all(i, true)").contains("cannot be range of a comprehension"));
    assert!(fault("self.x =").contains("Syntax error"));
    assert!(fault("has(self)").contains("invalid argument to has() macro"));
}

#[test]
fn costs_are_counted_and_limited() {
    let program = env().compile("o.all(x, o.all(y, x == y))").expect("an expression");
    let object = Json::from((0..2_000).map(|_| 1).collect::<Vec<_>>());
    let mut activation = Activation::new();
    activation.set("o", Value::from_untyped(&object));
    let evaluated = program.evaluate(&activation, 100_000);
    assert_eq!(evaluated.result.err(), Some(EvalError::CostLimit));
    assert!(evaluated.cost > 100_000);
    let cheap = env().compile("o == 1").expect("an expression").evaluate(&activation, 100).cost;
    assert_eq!(cheap, 2);
}

#[test]
fn the_worst_cost_is_told_from_sizes() {
    let sizes =
        Sizes { max: 10, items: Some(Box::new(Sizes { max: 100, ..Sizes::default() })), ..Sizes::default() };
    let env = Environment::new().with("self", Type::list(Type::String)).with_sizes(sizes);
    let estimate = |source: &str| env.compile(source).expect(source).estimate().max;
    assert_eq!(estimate("true"), 0);
    assert_eq!(estimate("self.size() > 1"), 3);
    // Ten items, each compared for a tenth of its length, and the loop's own four.
    assert_eq!(estimate("self.all(x, x == 'abc')"), 1 + 10 * (2 + 1 + 1 + 1) + 1);
    let unbounded = Environment::new().with("self", Type::list(Type::String));
    assert_eq!(unbounded.compile("self.all(x, true)").expect("an expression").estimate().max, u64::MAX);
}

#[test]
fn the_authorizer_is_asked_between_attempts() {
    let env = Environment::new().with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"));
    let program = env
        .compile("authorizer.group('apps').resource('deployments').namespace('n').check('create').allowed() || false")
        .expect("an expression");
    let decisions = Decisions::default();
    let mut activation = Activation::new();
    activation.set_authorizer("authorizer", &decisions);
    let Err(EvalError::Undecided(check)) = program.evaluate(&activation, PER_CALL_LIMIT).result else {
        panic!("nobody decided yet")
    };
    assert_eq!(check.verb, "create");
    let mut decisions = Decisions::default();
    decisions.add(*check, Decision { allowed: true, reason: String::new(), error: None });
    let mut activation = Activation::new();
    activation.set_authorizer("authorizer", &decisions);
    assert!(matches!(program.evaluate(&activation, PER_CALL_LIMIT).result, Ok(Value::Bool(true))));
}
