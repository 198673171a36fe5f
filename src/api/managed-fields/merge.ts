import { typeBelow, type FieldSet } from './field-set.ts';
import { fieldStep, itemStep } from './path-element.ts';
import { anyType, type FieldType, type ListType } from './types.ts';

type Json = any;
const isMap = (value: Json): value is Record<string, Json> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** An assignment that makes an own property of any name. */
function put(target: Record<string, Json>, name: string, value: Json): void {
  if (name === '__proto__') Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
  else target[name] = value;
}

const memberType = (type: FieldType, name: string): FieldType => typeBelow(type, fieldStep(name)) ?? anyType;

/**
 * The live object with a configuration laid over it. Nothing is taken away. Lists whose items can be told apart are merged item by item,
 * in the order of the configuration where it names several. Shares what it does not change with both.
 */
export function mergeValues(type: FieldType, live: Json, config: Json): Json {
  if (config === undefined) return live;
  if (live === undefined) return config;
  switch (type.kind) {
    case 'struct':
    case 'map':
      return type.atomic ? config : mergeMaps(type, live, config);
    case 'list':
      return type.identity === 'atomic' ? config : mergeLists(type, live, config);
    case 'any':
      return !type.atomic && isMap(config) && isMap(live) ? mergeMaps(type, live, config) : config;
    default:
      return config;
  }
}

function mergeMaps(type: FieldType, live: Json, config: Json): Json {
  // A null says nothing of members that are there.
  if (config === null && isMap(live) && Object.keys(live).length > 0) return live;
  if (!isMap(config) || !isMap(live)) return config;
  const merged: Record<string, Json> = {};
  for (const name of Object.keys(live)) {
    put(merged, name, Object.hasOwn(config, name) ? mergeValues(memberType(type, name), live[name], config[name]) : live[name]);
  }
  for (const name of Object.keys(config)) if (!Object.hasOwn(live, name)) put(merged, name, config[name]);
  return merged;
}

/**
 * Items of the configuration keep its order; the live list's others stay where they stood towards the items that both have.
 */
function mergeLists(type: ListType, live: Json, config: Json): Json {
  if (config === null && Array.isArray(live) && live.length > 0) return live;
  if (!Array.isArray(config) || !Array.isArray(live)) return config;
  const liveSteps = live.map((item) => itemStep(type, item));
  const configSteps = config.map((item) => itemStep(type, item));
  const inLive = new Map<string, Json>();
  // Several live items of the same identity are not merged with, but replaced.
  liveSteps.forEach((step, i) => inLive.set(step, inLive.has(step) ? undefined : live[i]));
  const inConfig = new Map(configSteps.map((step, i) => [step, config[i]]));
  const shared = configSteps.filter((step) => inLive.has(step));
  const merged: Json[] = [];
  const done = new Set<string>();
  let nextShared = shared.shift();
  const take = (step: string) => {
    done.add(step);
    merged.push(mergeValues(type.items, inLive.get(step), inConfig.get(step)));
  };
  for (let l = 0, c = 0; l < live.length || c < config.length; ) {
    if (l < live.length && c < config.length) {
      const step = liveSteps[l] as string;
      if (step === configSteps[c]) {
        take(step);
        l++;
        c++;
        nextShared = shared.shift();
        continue;
      }
      if (inConfig.has(step) && nextShared !== undefined && nextShared !== step) {
        // Both have it, but its turn is another.
        l++;
        continue;
      }
    }
    if (l < live.length) {
      const step = liveSteps[l] as string;
      if (!inConfig.has(step)) {
        merged.push(live[l]);
        l++;
        continue;
      }
      if (done.has(step)) l++;
    }
    if (c < config.length) {
      const step = configSteps[c] as string;
      take(step);
      c++;
      if (nextShared === step) nextShared = shared.shift();
    }
  }
  return merged;
}

/** The value without the items and members in the set. What is owned whole is left as it is; a list or object that has nothing left is gone. */
export function removeFields(type: FieldType, value: Json, fields: FieldSet): Json {
  if (fields.nodes.size === 0) return value;
  if (Array.isArray(value)) {
    // A part of something that is owned whole is not taken out of it: it goes as a whole.
    if (type.kind !== 'list' || type.identity === 'atomic' || value.length === 0) return undefined;
    const kept: Json[] = [];
    for (const item of value) {
      const node = fields.nodes.get(itemStep(type, item));
      if (node?.member) continue;
      kept.push(node?.children ? (removeFields(type.items, item, node.children) ?? null) : item);
    }
    return kept.length > 0 ? kept : undefined;
  }
  if (!isMap(value)) return value;
  if ((type.kind === 'struct' || type.kind === 'map' || type.kind === 'any') && type.atomic) return undefined;
  const kept: Record<string, Json> = {};
  let any = false;
  for (const name of Object.keys(value)) {
    const node = fields.nodes.get(fieldStep(name));
    if (node?.member) continue;
    const below = node?.children ? removeFields(memberType(type, name), value[name], node.children) : value[name];
    // Go keeps the member with nothing in it: null, which decoding drops.
    put(kept, name, below === undefined ? null : below);
    any = true;
  }
  return any ? kept : undefined;
}
