interface Requirement {
  key: string;
  operator: 'in' | 'notin' | 'exists' | '!';
  values: string[];
}

export function parseLabelSelector(text: string): Requirement[] {
  const requirements: Requirement[] = [];
  for (const match of text.matchAll(/\s*([^,()]+(?:\([^)]*\))?)\s*(?:,|$)/g)) {
    const term = match[1]!.trim();
    const set = /^(\S+)\s+(in|notin)\s*\(([^)]*)\)$/.exec(term);
    const equal = /^([^=!\s]+)\s*(==|=|!=)\s*(\S*)$/.exec(term);
    if (set) requirements.push({ key: set[1]!, operator: set[2] as 'in' | 'notin', values: set[3]!.split(',').map((v) => v.trim()) });
    else if (equal) requirements.push({ key: equal[1]!, operator: equal[2] === '!=' ? 'notin' : 'in', values: [equal[3]!] });
    else if (term.startsWith('!')) requirements.push({ key: term.slice(1).trim(), operator: '!', values: [] });
    else requirements.push({ key: term, operator: 'exists', values: [] });
  }
  return requirements;
}

export function matchesSelector(requirements: Requirement[], labels: Record<string, string> = {}): boolean {
  return requirements.every(({ key, operator, values }) => {
    const value = labels[key];
    if (operator === 'exists') return value !== undefined;
    if (operator === '!') return value === undefined;
    if (operator === 'in') return value !== undefined && values.includes(value);
    return value === undefined || !values.includes(value);
  });
}

export function parseFieldSelector(text: string): { field: string; op: '=' | '!='; value: string }[] {
  return text.split(',').map((term) => {
    const match = /^([^=!]+)(!=|==?)(.*)$/.exec(term.trim());
    if (!match) throw new Error(`invalid selector: '${term}'`);
    return { field: match[1]!, op: match[2] === '!=' ? '!=' : '=', value: match[3]! };
  });
}
