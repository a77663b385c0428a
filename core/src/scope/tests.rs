//! Scopes on processors that are made up: laws, words and text.

use poniard_interface::{DeviceClass, DeviceInfo, WorkerId};
use proptest::prelude::*;

use super::*;

/// Ten processors that differ in everything by which scopes tell them apart.
fn processors() -> Vec<ProcessorIdentity> {
    let identity = |index: u32| ProcessorIdentity {
        // Two backends have a processor of this name.
        name: format!("p{}", index % 9),
        kind: ["cpu", "gpu", "odd kind"][index as usize % 3].into(),
        backend: ["one", "two"][index as usize / 5].into(),
        process: ProcessId(index / 4),
        space: SpaceId(index % 2),
        worker: (index < 6).then_some(WorkerId(index)),
        device: (index >= 6).then(|| {
            let name = if index < 8 { "An odd device" } else { "another" };
            DeviceInfo { name: name.into(), uuid: "6D65-73".into(), class: DeviceClass::Other }
        }),
    };
    (0..10).map(identity).collect()
}

fn places(scope: &Scope) -> Vec<usize> {
    scope.select(&processors()).iter().collect()
}

fn parsed(text: &str) -> Scope {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A scope as a tree: the same thing said in another way.
#[derive(Clone, Debug)]
enum Tree {
    Term(ScopeTerm),
    Pair(Operator, Box<(Tree, Tree)>),
}

impl Tree {
    fn scope(&self) -> Scope {
        match self {
            Self::Term(term) => term.clone().into(),
            Self::Pair(operator, sides) => {
                let (left, right) = (sides.0.scope(), sides.1.scope());
                match operator {
                    Operator::Or => left | right,
                    Operator::And => left & right,
                    Operator::Except => left - right,
                }
            }
        }
    }

    fn contains(&self, processor: &ProcessorIdentity) -> bool {
        match self {
            Self::Term(term) => term.contains(processor),
            Self::Pair(operator, sides) => {
                let (left, right) = (sides.0.contains(processor), sides.1.contains(processor));
                match operator {
                    Operator::Or => left || right,
                    Operator::And => left && right,
                    Operator::Except => left && !right,
                }
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Term(term) => match term {
                ScopeTerm::Any => "any".into(),
                ScopeTerm::Host => "host".into(),
                ScopeTerm::Process(process) => format!("process:{process}"),
                ScopeTerm::Worker(index) => format!("worker:{index}"),
                ScopeTerm::Kind(kind) => format!("kind:\"{kind}\""),
                ScopeTerm::Backend(name) => format!("backend:{name}"),
                ScopeTerm::Processor(name) => format!("processor:{name}"),
                ScopeTerm::Device(name) => format!("device:\"{name}\""),
            },
            Self::Pair(operator, sides) => {
                let sign = match operator {
                    Operator::Or => '|',
                    Operator::And => '&',
                    Operator::Except => '-',
                };
                format!("({}){sign} ({})", sides.0.text(), sides.1.text())
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let term = prop_oneof![
        Just(ScopeTerm::Any),
        Just(ScopeTerm::Host),
        (0..4u32).prop_map(|process| ScopeTerm::Process(ProcessId(process))),
        prop_oneof![Just("cpu"), Just("gpu"), Just("odd kind"), Just("none")].prop_map(|kind| ScopeTerm::Kind(kind.into())),
        prop_oneof![Just("one"), Just("two")].prop_map(|name| ScopeTerm::Backend(name.into())),
        (0..10u32).prop_map(|index| ScopeTerm::Processor(format!("p{index}"))),
        prop_oneof![Just("An odd device"), Just("6d65-73")].prop_map(|name| ScopeTerm::Device(name.into())),
        (0..8u32).prop_map(ScopeTerm::Worker),
    ];
    let operator = prop_oneof![Just(Operator::Or), Just(Operator::And), Just(Operator::Except)];
    term.prop_map(Tree::Term).prop_recursive(6, 40, 2, move |inner| {
        (operator.clone(), inner.clone(), inner).prop_map(|(operator, left, right)| Tree::Pair(operator, Box::new((left, right))))
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    tree().prop_map(|tree| tree.scope())
}

proptest! {
    #[test]
    fn an_expression_selects_what_its_tree_does(tree in tree()) {
        let expected: Vec<_> = processors().iter().enumerate().filter(|(_, one)| tree.contains(one)).map(|(place, _)| place).collect();
        prop_assert_eq!(places(&tree.scope()), expected);
        prop_assert_eq!(parsed(&tree.text()), tree.scope());
    }

    #[test]
    fn union_and_intersection_form_a_lattice(a in scope(), b in scope(), c in scope()) {
        for combine in [Scope::and as fn(Scope, Scope) -> Scope, Scope::or] {
            let (ab, ba) = (combine(a.clone(), b.clone()), combine(b.clone(), a.clone()));
            prop_assert_eq!(places(&ab), places(&ba));
            prop_assert_eq!(places(&combine(ab, c.clone())), places(&combine(a.clone(), combine(b.clone(), c.clone()))));
            prop_assert_eq!(places(&combine(a.clone(), a.clone())), places(&a));
        }
        prop_assert_eq!(places(&(a.clone() & (a.clone() | b.clone()))), places(&a));
        prop_assert_eq!(places(&(a.clone() | (a.clone() & b.clone()))), places(&a));
        prop_assert_eq!(places(&(a.clone() & (b.clone() | c.clone()))), places(&(a.clone() & b | (a & c))));
    }

    #[test]
    fn exclusion_takes_away_and_union_gives_back(a in scope(), b in scope(), c in scope()) {
        let rest = a.clone() - b.clone();
        prop_assert_eq!(places(&(rest.clone() & b.clone())), Vec::<usize>::new());
        prop_assert_eq!(places(&(rest.clone() | b.clone())), places(&(a.clone() | b.clone())));
        prop_assert_eq!(places(&(rest.clone() | (a.clone() & b.clone()))), places(&a));
        prop_assert_eq!(places(&(a.clone() - (b | c.clone()))), places(&(rest & (a - c))));
    }

    #[test]
    fn subsets_are_reflexive_antisymmetric_and_made_by_intersection(a in scope(), b in scope()) {
        let set = |scope: &Scope| scope.select(&processors());
        prop_assert!(set(&a).is_subset_of(&set(&a)));
        prop_assert!(set(&(a.clone() & b.clone())).is_subset_of(&set(&a)));
        prop_assert!(set(&a).is_subset_of(&set(&(a.clone() | b.clone()))));
        prop_assert_eq!(set(&a).is_subset_of(&set(&b)) && set(&b).is_subset_of(&set(&a)), places(&a) == places(&b));
        prop_assert_eq!(set(&a).is_disjoint_from(&set(&b)), places(&(a & b)).is_empty());
    }

    #[test]
    fn words_group_as_the_expression_does(tree in tree()) {
        // Read back with signs for the words, in the precedence of the text form.
        let words = tree.scope().to_string();
        let mut text = words.replace(" or ", " | ").replace(" that are also ", " & ").replace(" and also ", " & ").replace(" except ", " - ");
        for (words, word) in [
            ("any processor", "any"), ("processors of the host", "host"), ("processors of process ", "process:"), ("worker ", "worker:"),
            ("processors of kind `", "kind:\""), ("processors of the backend `", "backend:\""), ("processor `", "processor:\""), ("device `", "device:\""), ("`", "\""),
        ] {
            text = text.replace(words, word);
        }
        prop_assert_eq!(places(&parsed(&text)), places(&tree.scope()), "{}", words);
    }

    #[test]
    fn no_text_is_more_than_an_error(text in "[a-z0-9:()|& \"-]{0,24}") {
        let _ = text.parse::<Scope>();
    }
}

#[test]
fn sets_of_many_processors_are_told_apart() {
    let many: Vec<_> = (0..130).map(|index| ProcessorIdentity { name: format!("p{index}"), ..processors().swap_remove(0) }).collect();
    let set = (Scope::processor("p100") | Scope::processor("p129") | Scope::processor("p0")).select(&many);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 100, 129]);
    assert!(!set.contains(1) && !set.contains(130) && !set.contains(1000));
    assert_eq!(Scope::any().select(&many), ProcessorSet::all(130));
    assert_ne!((Scope::any() - Scope::processor("p129")).select(&many), ProcessorSet::all(130));
}

#[test]
fn what_is_written_in_a_short_way_is_any_processor() {
    let cpu = Scope::kind("cpu");
    assert_eq!(Scope::any() & cpu.clone(), cpu);
    assert_eq!(cpu.clone() & Scope::any(), cpu);
    assert!((cpu.clone() | Scope::any()).is_any() && (Scope::any() | cpu).is_any());
    assert!(parsed("(any | kind:cpu) & any").is_any());
    assert_eq!(Scope::union([]), Err(EmptyUnion));
    assert_eq!(Scope::union([Scope::host()]), Ok(Scope::host()));
}

#[test]
fn a_long_or_deep_expression_takes_no_stack() {
    const COUNT: u32 = 20_000;
    let alternating = |scope: Scope, index: u32| match index % 3 {
        0 => scope | Scope::worker(index % 6),
        1 => scope & Scope::host(),
        _ => scope - Scope::worker(0),
    };
    let scope = (0..COUNT).fold(Scope::kind("cpu"), alternating);
    assert_eq!(places(&scope), [0]);
    assert_eq!(scope.terms().count(), COUNT as usize + 1);
    assert!(scope.to_string().ends_with("that are also processors of the host"));
    assert_eq!(places(&parsed(&format!("{}worker:1{}", "(".repeat(100_000), ")".repeat(100_000)))), [1]);
}

#[test]
fn words_say_what_is_meant() {
    for (text, words) in [
        ("kind:cpu - processor:threads-0", "processors of kind `cpu` except processor `threads-0`"),
        ("any - (worker:1 | worker:2)", "any processor except (worker 1 or worker 2)"),
        ("any - (worker:1 - worker:2) - host", "any processor except (worker 1 except worker 2) except processors of the host"),
        ("processor:threads-0 & processor:threads-1", "processor `threads-0` and also processor `threads-1`"),
        ("worker:0 & host & kind:cpu", "worker 0 and also processors of the host and also processors of kind `cpu`"),
        (
            "host & backend:a & process:0",
            "processors of the host that are also processors of the backend `a` that are also processors of process 0",
        ),
    ] {
        assert_eq!(parsed(text).to_string(), words);
    }
    assert_eq!(format!("{:?}", Scope::any()), "Scope(any processor)");
}

#[test]
fn a_text_that_is_no_scope_is_an_error_that_names_the_place() {
    for (text, character, part) in [
        ("", 1, "expected `any`"),
        ("  ", 3, "expected `any`"),
        ("cpu", 1, "found `cpu`"),
        ("any host", 5, "expected `|`, `&`, `-` or `)`"),
        ("any |", 6, "expected `any`"),
        ("any | & host", 7, "found `&`"),
        ("kind: | any", 6, "a name after `kind:`"),
        ("kind:\"\"", 6, "a name after `kind:`"),
        ("kind:\"odd", 6, "is not closed"),
        ("(any | (host)", 1, "`(` is not closed"),
        ("any)", 4, "closes nothing"),
        ("()", 2, "found `)`"),
        ("worker:one", 8, "a number after `worker:`, found `one`"),
        ("process:-1", 9, "a number"),
        ("colour:red", 1, "found `colour:red`"),
        ("any-host", 1, "`-` has white space before it"),
        // Characters, not bytes.
        ("kind:ähnlich ?", 14, "expected `|`"),
    ] {
        let error = text.parse::<Scope>().expect_err(text);
        assert_eq!(error.character, character, "{error}");
        assert!(error.to_string().contains(part) && error.text == text, "{error}");
    }
}
