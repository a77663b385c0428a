//! Every kernel's value on an input small enough to work out by hand.

use std::collections::BTreeSet;

use ndarray::arr2;
use poniard::{Code, Erased, KernelError, ProcessorKind};

use super::*;

fn call(name: &str, arguments: &[Value]) -> Result<Value, KernelError> {
    let definitions = by_name(7);
    let definition = definitions.get(name).unwrap_or_else(|| panic!("no kernel {name}"));
    let types: Vec<Type> = arguments.iter().map(Value::value_type).collect();
    let form = definition
        .forms
        .iter()
        .find(|form| {
            form.takes(types.len())
                && types.iter().enumerate().all(|(position, given)| form.input_at(position).unwrap().value_type == *given)
        })
        .unwrap_or_else(|| panic!("no form of {name} takes {types:?}"));
    let kernel = form.kernel(name, arguments.len());
    assert_eq!(kernel.parameters().len(), arguments.len());
    let Some(Code::Host(body)) = kernel.code(&ProcessorKind::cpu()) else { panic!("{name} has no host body") };
    let erased: Vec<Erased> = arguments.iter().cloned().map(Value::into_erased).collect();
    let result = body(&erased.iter().collect::<Vec<_>>())?;
    let value = match ValueRef::of(&result).unwrap() {
        ValueRef::Number(value) => Value::Number(value),
        ValueRef::Text(value) => Value::Text(value.to_owned()),
        ValueRef::Vector(value) => Value::Vector(value.to_vec()),
        ValueRef::Matrix(value) => Value::Matrix(value.clone()),
        ValueRef::Image(value) => Value::Image(value.clone()),
    };
    assert_eq!(value.value_type(), form.output, "{name} gives what its signature says");
    Ok(value)
}

fn n(value: f64) -> Value {
    Value::Number(value)
}
fn v(values: &[f64]) -> Value {
    Value::Vector(values.to_vec())
}
fn t(text: &str) -> Value {
    Value::Text(text.to_owned())
}
fn m<const C: usize>(rows: &[[f64; C]]) -> Value {
    Value::Matrix(arr2(rows))
}

fn check(name: &str, arguments: &[Value], expect: Value) {
    let found = call(name, arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
    let close =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0) || a == b);
    let same = match (&found, &expect) {
        (Value::Number(a), Value::Number(b)) => close(&[*a], &[*b]) || (a.is_nan() && b.is_nan()),
        (Value::Vector(a), Value::Vector(b)) => close(a, b),
        (Value::Matrix(a), Value::Matrix(b)) => {
            a.dim() == b.dim() && close(&a.iter().copied().collect::<Vec<_>>(), &b.iter().copied().collect::<Vec<_>>())
        }
        (a, b) => a == b,
    };
    assert!(same, "{name}({arguments:?}) = {found:?}, expected {expect:?}");
}

fn fails(name: &str, arguments: &[Value], with: &str) {
    let error = call(name, arguments).expect_err(name);
    assert!(error.0.contains(with), "{name}: {error}");
}

/// An image through the kernels that look at it as a matrix.
fn image(rows: &Matrix) -> Value {
    call("matrix-image", &[Value::Matrix(rows.clone())]).unwrap()
}

#[test]
fn names_are_unique_and_signatures_readable() {
    let entries = catalogue();
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), entries.len());
    assert!(entries.len() >= 25);
    let signature = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().signature.clone();
    assert_eq!(signature("power"), "power(base: number, exponent: number) -> number");
    assert_eq!(signature("add"), "add(value: number|vector|matrix...) -> number|vector|matrix");
    assert_eq!(signature("matmul"), "matmul(a: matrix, b: matrix|vector) -> matrix|vector");
    assert_eq!(signature("range"), "range(count: number) -> vector; range(count: number, start: number, step: number) -> vector");
    for definition in definitions(0) {
        for (index, form) in definition.forms.iter().enumerate() {
            for other in &definition.forms[..index] {
                let types = |form: &Form| form.inputs.iter().map(|input| input.value_type).collect::<Vec<_>>();
                assert!(types(form) != types(other), "two forms of {} take the same", definition.name);
            }
        }
    }
}

#[test]
fn arithmetic() {
    check("constant", &[t("x")], t("x"));
    check("add", &[n(1.0), n(2.0), n(3.5)], n(6.5));
    check("add", &[v(&[1.0, 2.0]), v(&[3.0, 4.0])], v(&[4.0, 6.0]));
    check("subtract", &[m(&[[1.0, 2.0]]), m(&[[3.0, 1.0]])], m(&[[-2.0, 1.0]]));
    check("multiply", &[n(3.0)], n(3.0));
    check("divide", &[n(1.0), n(0.0)], n(f64::INFINITY));
    check("divide", &[n(0.0), n(0.0)], n(f64::NAN));
    check("power", &[n(2.0), n(10.0)], n(1024.0));
    check("square-root", &[n(9.0)], n(3.0));
    check("absolute", &[n(-9.0)], n(9.0));
    check("round", &[n(2.5)], n(3.0));
    fails("square-root", &[n(-1.0)], "no real square root");
    fails("add", &[v(&[1.0]), v(&[1.0, 2.0])], "a vector of 1 does not go with a vector of 2");
    fails("add", &[m(&[[1.0]]), m(&[[1.0, 2.0]])], "1x1");
}

#[test]
fn vectors() {
    check("range", &[n(3.0)], v(&[0.0, 1.0, 2.0]));
    check("range", &[n(3.0), n(1.0), n(-0.5)], v(&[1.0, 0.5, 0.0]));
    check("join", &[v(&[1.0]), v(&[]), v(&[2.0, 3.0])], v(&[1.0, 2.0, 3.0]));
    check("collect", &[n(1.0), n(2.0)], v(&[1.0, 2.0]));
    check("element", &[v(&[4.0, 5.0]), n(1.0)], n(5.0));
    check("length", &[v(&[4.0, 5.0])], n(2.0));
    check("length", &[t("añb")], n(3.0));
    check("sum", &[v(&[1e16, 1.0, -1e16])], n(1.0));
    check("sum", &[v(&[f64::INFINITY, 1.0])], n(f64::INFINITY));
    check("sum", &[m(&[[1.0, 2.0], [3.0, 4.0]])], n(10.0));
    check("mean", &[v(&[1.0, 2.0, 6.0])], n(3.0));
    check("variance", &[v(&[1.0, 3.0])], n(1.0));
    check("standard-deviation", &[v(&[1.0, 5.0])], n(2.0));
    check("minimum", &[v(&[3.0, -1.0])], n(-1.0));
    check("maximum", &[v(&[3.0, -1.0])], n(3.0));
    check("median", &[v(&[5.0, 1.0, 3.0, 2.0])], n(2.5));
    check("quantile", &[v(&[0.0, 10.0]), n(0.25)], n(2.5));
    check("norm", &[v(&[3e200, 4e200])], n(5e200));
    check("norm", &[v(&[f64::NAN, 1.0])], n(f64::NAN));
    check("dot", &[v(&[1.0, 2.0]), v(&[3.0, 4.0])], n(11.0));
    check("scale", &[v(&[1.0, 2.0]), n(3.0)], v(&[3.0, 6.0]));
    check("shift", &[m(&[[1.0, 2.0]]), n(1.0)], m(&[[2.0, 3.0]]));
    check("axpy", &[n(2.0), v(&[1.0, 2.0]), v(&[10.0, 20.0])], v(&[12.0, 24.0]));
    check("sort", &[v(&[2.0, f64::INFINITY, -3.0])], v(&[-3.0, 2.0, f64::INFINITY]));
    check("reverse", &[v(&[1.0, 2.0])], v(&[2.0, 1.0]));
    check("cumulative-sum", &[v(&[1.0, 2.0, 3.0])], v(&[1.0, 3.0, 6.0]));
    check("histogram", &[v(&[0.0, 1.0, 2.0, 4.0]), n(2.0)], v(&[2.0, 2.0]));
    check("histogram", &[v(&[]), n(2.0)], v(&[0.0, 0.0]));
    check("histogram", &[v(&[7.0, 7.0]), n(2.0)], v(&[2.0, 0.0]));
    fails("sort", &[v(&[f64::NAN])], "NaN");
    fails("median", &[v(&[])], "empty");
    fails("mean", &[v(&[])], "not defined");
    fails("element", &[v(&[1.0]), n(1.0)], "index must be a whole number from 0 to 0");
    fails("range", &[n(1e18)], "count must be a whole number");
    fails("range", &[n(f64::NAN)], "not NaN");
    fails("range", &[n(-1.0)], "not -1");
    fails("histogram", &[v(&[-f64::MAX, f64::MAX]), n(2.0)], "too far apart");
    let random = |seed| {
        let definitions = by_name(seed);
        let kernel = definitions["random-vector"].forms[0].kernel("random-vector", 1);
        let Some(Code::Host(body)) = kernel.code(&ProcessorKind::cpu()) else { panic!() };
        let result = body(&[&n(3.0).into_erased()]).unwrap();
        let Some(ValueRef::Vector(values)) = ValueRef::of(&result) else { panic!() };
        values.to_vec()
    };
    assert_eq!(random(1), random(1));
    assert_ne!(random(1), random(2));
    assert!(random(3).iter().all(|value| (0.0..1.0).contains(value)));
    assert_ne!(call("random-vector", &[n(2.0), n(0.0)]).unwrap(), call("random-vector", &[n(2.0), n(1.0)]).unwrap());
    assert_eq!(call("random-normal", &[n(2.0)]).unwrap(), call("random-normal", &[n(2.0), n(0.0)]).unwrap());
}

#[test]
fn matrices() {
    let a = m(&[[4.0, 2.0], [2.0, 3.0]]);
    check("identity", &[n(2.0)], m(&[[1.0, 0.0], [0.0, 1.0]]));
    check("matmul", &[a.clone(), m(&[[1.0], [2.0]])], m(&[[8.0], [8.0]]));
    check("matmul", &[a.clone(), v(&[1.0, 2.0])], v(&[8.0, 8.0]));
    check("transpose", &[m(&[[1.0, 2.0]])], m(&[[1.0], [2.0]]));
    check("trace", std::slice::from_ref(&a), n(7.0));
    check("determinant", std::slice::from_ref(&a), n(8.0));
    check("determinant", &[m(&[[0.0, 1.0], [1.0, 0.0]])], n(-1.0));
    check("cholesky-factor", std::slice::from_ref(&a), m(&[[2.0, 0.0], [1.0, 2.0_f64.sqrt()]]));
    check("solve", &[a, v(&[8.0, 8.0])], v(&[1.0, 2.0]));
    check("solve", &[m(&[[0.0, 2.0], [1.0, 0.0]]), v(&[4.0, 3.0])], v(&[3.0, 2.0]));
    check("solve", &[m(&[[0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.0, 0.0]]), v(&[7.0, 6.0, 2.0])], v(&[1.0, 2.0, 3.0]));
    check("reshape", &[v(&[1.0, 2.0, 3.0, 4.0]), n(2.0), n(2.0)], m(&[[1.0, 2.0], [3.0, 4.0]]));
    check("flatten", &[m(&[[1.0, 2.0], [3.0, 4.0]])], v(&[1.0, 2.0, 3.0, 4.0]));
    check("row-sums", &[m(&[[1.0, 2.0], [3.0, 4.0]])], v(&[3.0, 7.0]));
    check("column-sums", &[m(&[[1.0, 2.0], [3.0, 4.0]])], v(&[4.0, 6.0]));
    fails("solve", &[m(&[[1.0, 2.0], [2.0, 4.0]]), v(&[1.0, 1.0])], "singular");
    fails("solve", &[m(&[[f64::NAN]]), v(&[1.0])], "singular");
    fails("solve", &[m(&[[1.0, 2.0]]), v(&[1.0])], "not square");
    fails("cholesky-factor", &[m(&[[1.0, 2.0], [2.0, 1.0]])], "not positive definite");
    fails("cholesky-factor", &[m(&[[1.0, 2.0], [0.0, 1.0]])], "not symmetric");
    fails("matmul", &[m(&[[1.0, 2.0]]), m(&[[1.0, 2.0]])], "does not go with");
    fails("random-matrix", &[n(1e8), n(1e8)], "over the limit");
    fails("reshape", &[v(&[1.0]), n(2.0), n(2.0)], "does not fill");
}

#[test]
fn images() {
    let dot = image(&arr2(&[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]));
    let seen = |name: &str, arguments: &[Value]| {
        let result = call(name, arguments).unwrap();
        match call("image-matrix", &[result]).unwrap() {
            Value::Matrix(matrix) => matrix,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen("checkerboard", &[n(3.0), n(2.0), n(1.0)]), arr2(&[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]));
    assert_eq!(seen("invert", &[image(&arr2(&[[0.25]]))]), arr2(&[[0.75]]));
    assert_eq!(seen("threshold", &[image(&arr2(&[[0.25, 0.5]])), n(0.5)]), arr2(&[[0.0, 1.0]]));
    assert_eq!(seen("crop", &[dot.clone(), n(1.0), n(1.0), n(2.0), n(1.0)]), arr2(&[[1.0, 0.0]]));
    // Convolution of a single dot gives the matrix itself, not its mirror image.
    let stencil = arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]);
    assert_eq!(seen("convolve", &[dot.clone(), Value::Matrix(stencil.clone())]), stencil);
    let blurred = seen("blur", &[dot.clone(), n(0.5)]);
    assert!((blurred.sum() - 1.0).abs() < 0.05 && blurred[[1, 1]] < 1.0 && blurred[[0, 1]] == blurred[[1, 0]], "{blurred}");
    assert_eq!(seen("blur", &[dot.clone(), n(0.0)])[[1, 1]], 1.0);
    assert_eq!(seen("edges", &[image(&arr2(&[[0.0, 1.0], [0.0, 1.0]]))]), arr2(&[[1.0, 1.0], [1.0, 1.0]]));
    assert_eq!(seen("resize", &[image(&arr2(&[[0.0, 1.0]])), n(4.0), n(1.0)]), arr2(&[[0.0, 0.25, 0.75, 1.0]]));
    let shrunk = seen("resize", &[image(&arr2(&[[1.0, 1.0, 1.0, 1.0, 1.0]])), n(2.0), n(1.0)]);
    assert!(shrunk.iter().all(|value| (value - 1.0).abs() < 1e-6));
    let colours = call("gradient-image", &[n(3.0), n(3.0)]).unwrap();
    let Value::Image(mixed) = call("blend", &[dot.clone(), colours.clone(), n(0.5)]).unwrap() else { panic!() };
    assert_eq!(mixed.dim(), (3, 3, 3));
    let Value::Image(grey) = call("grey", std::slice::from_ref(&colours)).unwrap() else { panic!() };
    assert_eq!(grey.dim(), (3, 3, 1));
    assert_eq!(call("noise-image", &[n(2.0), n(2.0)]).unwrap(), call("noise-image", &[n(2.0), n(2.0), n(0.0)]).unwrap());
    check("mean", std::slice::from_ref(&dot), n(1.0 / 9.0));
    check("histogram", &[dot.clone(), n(2.0)], v(&[8.0, 1.0]));
    fails("convolve", &[dot.clone(), m(&[[1.0, 2.0]])], "odd sides");
    fails("crop", &[dot.clone(), n(2.0), n(0.0), n(2.0), n(1.0)], "not all within");
    fails("blur", &[dot.clone(), n(f64::NAN)], "sigma");
    fails("blend", &[dot, image(&arr2(&[[1.0]])), n(0.5)], "does not go with");
    fails("checkerboard", &[n(30000.0), n(30000.0), n(1.0)], "over the limit");
    fails("gradient-image", &[n(0.0), n(1.0)], "width must be");
}

#[test]
fn texts() {
    check("text-concat", &[t("a"), t("b"), t("c")], t("abc"));
    check("text-repeat", &[t("ab"), n(2.0)], t("abab"));
    check("format", &[n(0.5)], t("0.5"));
    check("upper-case", &[t("straße")], t("STRASSE"));
    check("lower-case", &[t("ÄB")], t("äb"));
    check("word-count", &[t(" two  words\n")], n(2.0));
    check("line-count", &[t("a\nb\n")], n(2.0));
    check("edit-distance", &[t("kitten"), t("sitting")], n(3.0));
    fails("text-repeat", &[t("ab"), n(6e7)], "over the limit");
}

#[test]
fn control() {
    check("wait", &[n(1.0)], n(1.0));
    fails("wait", &[n(1e9)], "milliseconds");
    fails("fail", &[t("on purpose")], "on purpose");
}
