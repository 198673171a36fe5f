/** The OpenAPI v2 document of all built-in resources. */
export function openapiV2(): any {
  return { swagger: '2.0', info: { title: 'Kubernetes', version: 'v1.37.0' }, paths: {}, definitions: {} };
}

/** Group versions that have an OpenAPI v3 document, with a hash of it. */
export function openapiV3Paths(): Record<string, string> {
  return {};
}

/** The OpenAPI v3 document of a group version, such as `apis/apps/v1`; undefined where there is none. */
export function openapiV3(groupVersionPath: string): any {
  void groupVersionPath;
  return undefined;
}
