const form = /^v(\d+)(?:(alpha|beta)(\d+))?$/;
const stability = { alpha: 0, beta: 1, stable: 2 };

/** Orders versions as Kubernetes does: v2 > v1 > v1beta2 > v1beta1 > v1alpha1, and those of another form after them, by name. */
export function compareVersions(a: string, b: string): number {
  const x = form.exec(a);
  const y = form.exec(b);
  if (!x || !y) {
    if (x) return 1;
    if (y) return -1;
    return a < b ? 1 : a > b ? -1 : 0;
  }
  const rank = (m: RegExpExecArray) => stability[(m[2] as 'alpha' | 'beta' | undefined) ?? 'stable'];
  return rank(x) - rank(y) || Number(x[1]) - Number(y[1]) || Number(x[3] ?? 0) - Number(y[3] ?? 0);
}
