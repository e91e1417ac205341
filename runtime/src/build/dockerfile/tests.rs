use super::*;

fn kinds(text: &str) -> Vec<Kind> {
    let file = parse(&format!("FROM x\n{text}")).expect("a Dockerfile");
    file.stages[0].instructions.iter().map(|i| i.kind.clone()).collect()
}

fn reason(text: &str) -> String {
    parse(text).expect_err("refused").to_string()
}

#[test]
fn stages_have_names_bases_and_instructions() {
    let file = parse(
        "# syntax=docker/dockerfile:1\nARG base=debian:12\nFROM --platform=linux/amd64 $base AS Builder\n\
         RUN make\n\nfrom scratch\nCOPY --from=builder /a /b\n",
    )
    .expect("a Dockerfile");
    assert_eq!(file.arguments, [Argument { name: "base".into(), default: Some("debian:12".into()) }]);
    let names: Vec<_> = file.stages.iter().map(|s| (s.base.as_str(), s.name.as_deref())).collect();
    assert_eq!(names, [("$base", Some("builder")), ("scratch", None)]);
    assert_eq!(file.stages[0].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(file.stages[1].instructions[0].line, 7);
}

#[test]
fn lines_are_joined_over_comments_and_empty_lines() {
    let [Kind::Run { command: Command::Shell(text), .. }] =
        &kinds("RUN a && \\\n  # why\n\n  b \\  \n c")[..]
    else {
        panic!("one RUN");
    };
    assert_eq!(text, "a &&   b  c");
    let file = parse("# escape=`\nFROM x\nRUN dir `\n c:\\").expect("a Dockerfile");
    assert_eq!(file.stages[0].instructions[0].text, "RUN dir  c:\\");
}

#[test]
fn commands_are_lists_or_for_a_shell() {
    assert_eq!(
        kinds("CMD [\"a\", \"b c\"]\nENTRYPOINT exec $X [1]\nCMD ['a']"),
        [
            Kind::Cmd(Command::Exec(vec!["a".into(), "b c".into()])),
            Kind::Entrypoint(Command::Shell("exec $X [1]".into())),
            Kind::Cmd(Command::Shell("['a']".into())),
        ]
    );
}

#[test]
fn pairs_come_in_both_spellings() {
    assert_eq!(
        kinds("ENV a=b c=\"d e\" f=g\\ h\nENV old the rest\nLABEL \"x y\"=z"),
        [
            Kind::Env(vec![
                ("a".into(), "b".into()),
                ("c".into(), "\"d e\"".into()),
                ("f".into(), "g\\ h".into())
            ]),
            Kind::Env(vec![("old".into(), "the rest".into())]),
            Kind::Label(vec![("\"x y\"".into(), "z".into())]),
        ]
    );
    assert!(reason("FROM x\nENV a=b c").contains("can't find = in \"c\""));
}

#[test]
fn heredocs_are_commands_and_files() {
    let found =
        kinds("RUN <<EOF\necho a\n# kept\nEOF\nCOPY <<-\"X\" <<Y /d/\n\ttext $a\n\tX\nother\nY\nUSER me");
    let Kind::Run { heredocs, .. } = &found[0] else { panic!("a RUN") };
    assert_eq!(heredocs[0].content, "echo a\n# kept\n");
    let Kind::Copy(copy) = &found[1] else { panic!("a COPY") };
    assert!(copy.sources.is_empty());
    let contents: Vec<_> = copy.heredocs.iter().map(|h| (h.content.as_str(), h.expand)).collect();
    assert_eq!(contents, [("text $a\n", false), ("other\n", true)]);
    assert_eq!(found[2], Kind::User("me".into()));
    assert!(reason("FROM x\nRUN <<EOF\na").contains("unterminated heredoc EOF"));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, said) in [
        ("", "file with no instructions"),
        ("RUN x", "Dockerfile:1: no build stage in current context"),
        ("FROM a b", "Dockerfile:1: FROM requires either one or three arguments"),
        ("FROM a AS 1", "invalid name for build stage"),
        ("FROM a\n\nFOO x", "Dockerfile:3: unknown instruction: FOO"),
        ("FROM a\nCOPY x", "COPY requires at least two arguments"),
        ("FROM a\nCOPY --froom=x a b", "unknown flag: --froom"),
        ("FROM a\nRUN --mount=type=ssh,target=/x a", "RUN --mount is not supported"),
        ("FROM a\nSHELL sh", "JSON form"),
        ("FROM a\nONBUILD FROM b", "is not one instruction"),
        ("FROM a\nONBUILD ONBUILD RUN x", "is not one instruction"),
        ("FROM a\nHEALTHCHECK x", "unknown type \"X\""),
        ("# escape=x\nFROM a", "invalid escape token"),
    ] {
        assert!(reason(text).contains(said), "{text:?}: {}", reason(text));
    }
}

#[test]
fn variables_and_quotes_are_expanded_as_docker_does() {
    let lookup = |name: &str| match name {
        "a" => Some("A".to_owned()),
        "empty" => Some(String::new()),
        _ => None,
    };
    for (word, expected) in [
        ("$a", "A"),
        ("${a}b", "Ab"),
        ("$ab", ""),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ("\"$a b\"", "A b"),
        ("\"\\$a \\x\"", "$a \\x"),
        ("${x:-y}", "y"),
        ("${empty:-y}", "y"),
        ("${empty-y}", ""),
        ("${a:+y}", "y"),
        ("${x:+y}", ""),
        ("${x:-${a}b}", "Ab"),
        ("${x:-\"p q\"}", "p q"),
        ("$", "$"),
        ("a$/b", "a$/b"),
        ("g\\ h", "g h"),
    ] {
        assert_eq!(expand(word, '\\', &lookup).as_deref(), Ok(expected), "{word}");
    }
    assert_eq!(expand("${x:?gone}", '\\', &lookup), Err("x: gone".to_owned()));
    let deep = "${x:-".repeat(12) + &"}".repeat(12);
    for bad in ["${a", "'a", "\"a", "${}", "${a/b/c}", deep.as_str()] {
        assert!(expand(bad, '\\', &lookup).is_err(), "{bad}");
    }
}
