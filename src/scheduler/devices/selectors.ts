import { Environment, type Program } from '../../api/cel/environment.ts';
import { quantityValue } from '../../api/cel/library/quantity.ts';
import { semverValue } from '../../api/cel/library/semver.ts';
import { t } from '../../api/cel/types.ts';
import type { CelMap, Value } from '../../api/cel/values.ts';
import type { Device, DeviceAttribute, DeviceSelector } from '../../api/generated/types.ts';

/** What expressions may use: device.driver, device.attributes[DOMAIN].NAME, device.capacity[DOMAIN].NAME, device.allowMultipleAllocations. */
const environment = new Environment({ variables: { device: t.dyn } });
const programs = new Map<string, Program | Error>();
const mostPrograms = 1000;

function compile(expression: string): Program | Error {
  let known = programs.get(expression);
  if (!known) {
    try {
      known = environment.compile(expression);
    } catch (error) {
      known = error as Error;
    }
    if (programs.size >= mostPrograms) programs.clear();
    programs.set(expression, known);
  }
  return known;
}

class NamedValues implements CelMap {
  readonly map = true;
  readonly #values: ReadonlyMap<string, Value>;
  readonly #missing: Value | undefined;
  constructor(values: ReadonlyMap<string, Value>, missing?: Value) {
    this.#values = values;
    this.#missing = missing;
  }
  get size() {
    return this.#values.size;
  }
  get(key: Value): Value | undefined {
    return typeof key === 'string' ? (this.#values.get(key) ?? this.#missing) : undefined;
  }
  keys(): Value[] {
    return [...this.#values.keys()];
  }
}
const nothing = new NamedValues(new Map());

/** Names with their domain apart; one without is of the driver's. A domain that a device has nothing of is empty. */
function byDomain<T>(named: Record<string, T> | undefined, driver: string, toValue: (value: T) => Value): CelMap {
  const domains = new Map<string, Map<string, Value>>();
  for (const [name, value] of Object.entries(named ?? {})) {
    const slash = name.indexOf('/');
    const domain = slash < 0 ? driver : name.slice(0, slash);
    if (!domains.has(domain)) domains.set(domain, new Map());
    domains.get(domain)!.set(name.slice(slash + 1), toValue(value));
  }
  return new NamedValues(new Map([...domains].map(([domain, values]) => [domain, new NamedValues(values) as Value])), nothing);
}

function attributeValue(a: DeviceAttribute): Value {
  if (a.int !== undefined) return BigInt(a.int);
  if (a.bool !== undefined) return a.bool;
  if (a.version !== undefined) return semverValue(a.version);
  return a.string ?? null;
}

const views = new WeakMap<Device, Value>();
function viewOf(device: Device, driver: string): Value {
  let view = views.get(device);
  if (view === undefined) {
    view = new NamedValues(
      new Map<string, Value>([
        ['driver', driver],
        ['attributes', byDomain(device.attributes, driver, attributeValue)],
        ['capacity', byDomain(device.capacity, driver, (c) => quantityValue(String(c.value)))],
        ['allowMultipleAllocations', device.allowMultipleAllocations ?? false],
      ]),
    );
    views.set(device, view);
  }
  return view;
}

/** Whether a device fulfils all selectors. Throws where an expression does not compile or fails; `where` says in the message whose it is. */
export function matchesSelectors(device: Device, driver: string, selectors: readonly DeviceSelector[] | undefined, where: string): boolean {
  for (const [index, { cel }] of (selectors ?? []).entries()) {
    if (!cel) throw new Error(`${where}: selector #${index}: CEL expression empty (unsupported selector type?)`);
    const program = compile(cel.expression);
    if (program instanceof Error) throw new Error(`${where}: selector #${index}: CEL compile error: ${program.message}`);
    let result: Value;
    try {
      result = program.run((name) => (name === 'device' ? viewOf(device, driver) : undefined)).value;
    } catch (error) {
      throw new Error(`${where}: selector #${index}: CEL runtime error: ${(error as Error).message}`);
    }
    if (typeof result !== 'boolean') throw new Error(`${where}: selector #${index}: must evaluate to bool`);
    if (!result) return false;
  }
  return true;
}
