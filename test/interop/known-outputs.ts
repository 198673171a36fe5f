/**
 * How many of kubectl's outputs about a sample or in a scenario still differ from upstream's. It may only shrink. Missing are default
 * objects (flow control, local APIServices, a few cluster roles) and conditions that upstream's server sets by itself; groups that
 * upstream serves behind feature gates only are always served here; and a server that is no Go program says so in its version.
 */
export const different: Record<string, number> = {
  'admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy a': 2,
  // Upstream's row has a cell more than its table has columns.
  'networking.k8s.io/v1 IPAddress 10.96.7.7': 1,
  'get in all its forms': 4,
  'what there is': 5,
};
