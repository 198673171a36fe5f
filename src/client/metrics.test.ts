import { expect, test } from 'vitest';
import { exponential, MetricRegistry } from './metrics.ts';

test('counters, gauges and histograms in text', () => {
  const registry = new MetricRegistry();
  const requests = registry.counter('requests_total', 'Requests.', ['code', 'path']);
  requests.of('200', '/a').inc();
  requests.of('200', '/a').inc(2);
  requests.of('500', 'a"b\\c\n').inc();
  registry.collected('gauge', 'depth', 'Depth.', ['name'], (set) => {
    set(3, 'one');
    set(Number.POSITIVE_INFINITY, 'two');
  });
  const sizes = registry.histogram('sizes', 'Sizes.', [], [0.5, 1000, 1e7]);
  for (const size of [0.5, 0.6, 1e6, 1e9]) sizes.of().observe(size);
  registry.histogram('unused', 'Nothing was seen.', ['a'], [1]);
  expect(registry.text()).toBe(`# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{code="200",path="/a"} 3
requests_total{code="500",path="a\\"b\\\\c\\n"} 1
# HELP depth Depth.
# TYPE depth gauge
depth{name="one"} 3
depth{name="two"} +Inf
# HELP sizes Sizes.
# TYPE sizes histogram
sizes_bucket{le="0.5"} 1
sizes_bucket{le="1000"} 2
sizes_bucket{le="1e+07"} 3
sizes_bucket{le="+Inf"} 4
sizes_sum 1001000001.1
sizes_count 4
`);
});

test('what is collected is not what was there before', () => {
  const registry = new MetricRegistry();
  let names = ['a', 'b'];
  registry.collected('gauge', 'g', 'G.', ['name'], (set) => names.forEach((name) => set(1, name)));
  expect(registry.text()).toContain('g{name="a"} 1');
  names = ['b'];
  expect(registry.text()).not.toContain('name="a"');
});

test('exponential buckets', () => expect(exponential(0.001, 2, 4)).toEqual([0.001, 0.002, 0.004, 0.008]));
