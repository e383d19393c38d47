// SPDX-License-Identifier: Apache-2.0
//! Text in, objects or messages out. Tier 1: pure.

use super::*;

const SLICE: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: demo
addressType: IPv4
endpoints:
  - addresses: [10.0.0.1]
  - addresses: [10.0.0.2]
    nodeName: n1
";

fn ids(text: &str) -> Vec<String> {
    let objects = read("web.yaml", text.as_bytes()).unwrap();
    objects.keys().map(|id| format!("{} {}", id.kind.as_str(), id.key)).collect()
}

fn faults(text: &str) -> Vec<String> {
    read("web.yaml", text.as_bytes()).unwrap_err().into_iter().map(|fault| fault.message).collect()
}

fn the_fault(text: &str) -> String {
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].clone()
}

#[test]
fn documents_lists_and_json_are_read_and_other_kinds_ignored() {
    let text = format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nspec: whatever\n---\n{SLICE}---\napiVersion: v1\nkind: List\n\
         items:\n- apiVersion: v1\n  kind: Node\n  metadata: {{name: n1}}\n- apiVersion: v1\n  kind: Service\n  \
         metadata: {{name: web}}\n  spec: {{ports: [{{port: 80, targetPort: http}}]}}\n"
    );
    assert_eq!(ids(&text), ["Node n1", "EndpointSlice demo/web-1", "Service default/web"]);
    let json = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Node\",\n\t\"metadata\": {\"name\": \"n2\"}\n}\n";
    assert_eq!(ids(json), ["Node n2"]);
}

#[test]
fn of_a_pod_the_labels_are_read_and_the_rest_cannot_be_at_fault() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p1, namespace: demo, labels: {shard: blue}}\nspec: whatever\n";
    let objects = read("web.yaml", text.as_bytes()).unwrap();
    let Some(Object::Pod(pod)) = objects.values().next() else { panic!("{objects:?}") };
    assert_eq!((pod.key.to_string(), pod.labels["shard"].as_str()), ("demo/p1".into(), "blue"));
    let fault = the_fault(&text.replace("shard: blue", "shard: {x: y}"));
    assert!(
        fault.starts_with("file web.yaml, document 1, line 3: Pod demo/p1: metadata.labels.shard: "),
        "{fault}"
    );
}

#[test]
fn text_that_is_not_yaml_is_named_with_file_document_and_line() {
    let fault = the_fault(&format!("{SLICE}---\nkind: Service\n  metadata: [\n"));
    assert!(fault.starts_with("file web.yaml, document 2, line 13: not YAML: "), "{fault}");
    assert!(!fault.contains('\n'), "{fault:?}");
    assert_eq!(
        read("web.yaml", b"a: \xff").unwrap_err()[0].message,
        "file web.yaml: byte 3 is not UTF-8; it is not a text file"
    );
}

#[test]
fn a_missing_field_is_named_with_its_path_and_line() {
    assert_eq!(
        the_fault(&SLICE.replace("addressType: IPv4\n", "")),
        "file web.yaml, document 1, line 1: EndpointSlice demo/web-1: addressType: is missing; allowed: IPv4, IPv6"
    );
    assert_eq!(
        the_fault(&SLICE.replace("- addresses: [10.0.0.2]\n    nodeName", "- nodeName")),
        "file web.yaml, document 1, line 9: EndpointSlice demo/web-1: endpoints[1].addresses: is missing"
    );
    assert_eq!(
        the_fault(&SLICE.replace("  name: web-1\n", "")),
        "file web.yaml, document 1, line 4: EndpointSlice demo/without name: metadata.name: is missing"
    );
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - name: http\n";
    assert_eq!(
        the_fault(text),
        "file web.yaml, document 1, line 6: Service default/web: spec.ports[0].port: is missing"
    );
    assert!(the_fault("a: 1\n").ends_with("line 1: object: kind: is missing or not a string"));
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_path_and_line() {
    let fault = the_fault(&SLICE.replace("nodeName: n1", "nodeName: [n1]"));
    let expected =
        "file web.yaml, document 1, line 10: EndpointSlice demo/web-1: endpoints[1].nodeName: invalid type";
    assert!(fault.starts_with(expected), "{fault}");
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: n\n    labels: {a: true}\n";
    let fault = the_fault(text);
    assert!(fault.contains("line 8: Node n: items[0].metadata.labels"), "{fault}");
}

#[test]
fn a_version_that_is_not_known_is_a_fault() {
    assert_eq!(
        the_fault(&SLICE.replace("k8s.io/v1\n", "k8s.io/v1beta1\n")),
        "file web.yaml, document 1, line 1: EndpointSlice demo/web-1: apiVersion: \"discovery.k8s.io/v1beta1\" is not \
         known for this kind; allowed: discovery.k8s.io/v1"
    );
}

#[test]
fn all_faults_of_a_file_are_told_and_an_empty_file_is_one() {
    assert_eq!(faults(&format!("a: [\n---\n{SLICE}---\nb: 1\n")).len(), 2);
    for empty in ["", "---\n", "# nothing\n", "---\nnull\n"] {
        assert_eq!(
            the_fault(empty),
            "file web.yaml: holds no object; remove the file to remove the objects it held"
        );
    }
}

#[test]
fn an_object_that_is_in_a_file_twice_is_a_fault() {
    assert_eq!(
        the_fault(&format!("{SLICE}---\n{SLICE}")),
        "file web.yaml, document 2, line 15: EndpointSlice demo/web-1: metadata.name: is in this file twice; remove one"
    );
}

#[test]
fn a_field_that_is_there_twice_is_not_yaml() {
    let fault = the_fault(&format!("{SLICE}addressType: IPv6\n"));
    assert!(fault.contains("line 11: not YAML: ") && fault.contains("addressType"), "{fault}");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    assert!(the_fault(&text).contains("not YAML"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "(kind: Service|apiVersion: v1|metadata:|  name: a|---|- |\\[|\\{|\"|:|#|\n| |\\PC){0,40}") {
        if let Err(faults) = read("x.yaml", text.as_bytes()) {
            proptest::prop_assert!(!faults.is_empty());
        }
    }
}
