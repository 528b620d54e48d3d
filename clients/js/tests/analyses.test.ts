import { expect, it } from 'vitest';
import { createFakeClient } from '../src/testing.js';

const common = (interviewId: string) => ({ interviewId, message: 'm', status: 's', timestamp: 't', server: 'test' });

it('hears an analysis under both of its names, and once what comes under both', () => {
  const client = createFakeClient();
  const kinds: string[] = [];
  const analysis = client.analysis('42');
  analysis.on((event, state) => kinds.push(`${event.kind} ${state.state} ${state.progress ?? '-'}`));
  expect(analysis.current).toEqual({ interviewId: '42', state: 'unknown' });

  client.receive('analysis:started', common('42'));
  client.receive('analysis:started', common('43'));
  client.receive('analysis:progress', { ...common('42'), progress: 40 });
  const completed = { ...common('42'), analysis: { summary: 's', analyzedAt: 't', fileSize: 1 } };
  client.receive('analysis:completed', completed);
  client.receive('analysis:completed:42', completed);
  client.receive('analysis:failed:43', { error: 'no interviewId within' });
  expect(kinds).toEqual(['started processing -', 'progress processing 40', 'completed completed -']);
  expect(client.analysis('43').current.state).toBe('failed');
});

it('knows what came before it was asked, of the last 200', () => {
  const client = createFakeClient();
  const watched = client.analysis('watched');
  watched.on(() => {});
  for (let id = 0; id < 300; id += 1) client.receive('analysis:started', common(String(id)));
  expect(client.analysis('299').current.state).toBe('processing');
  expect(client.analysis('0').current.state).toBe('unknown');
  client.receive('analysis:started', common('watched'));
  expect(watched.current.state).toBe('processing');
  expect(client.analysis('watched')).toBe(watched);
});

it('is not impressed by what is no analysis', () => {
  const client = createFakeClient();
  for (const payload of [undefined, null, 7, 'text', {}, { interviewId: 7 }]) client.receive('analysis:started' as string, payload);
  client.receive('analysis:else', common('42'));
  expect(client.analysis('42').current.state).toBe('unknown');
});
