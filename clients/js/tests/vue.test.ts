import { expect, it } from 'vitest';
import { createApp, defineComponent, h, nextTick, ref } from 'vue';
import { createFakeClient } from '../src/testing.js';
import { sockring, useAnalysis, useConnection, useEvent } from '../src/vue.js';

const common = { interviewId: '42', message: 'm', status: 's', timestamp: 't', server: 'test' };

it('renders what the client knows, and ends with its component', async () => {
  const client = createFakeClient();
  const interviewId = ref('42');
  const View = defineComponent(() => {
    const { status, isConnected } = useConnection();
    const analysis = useAnalysis(interviewId);
    const reports = ref(0);
    useEvent('report:generated', () => { reports.value += 1; });
    return () => h('p', `${status.value.state} ${isConnected.value} ${analysis.value.state} ${analysis.value.progress ?? '-'} ${reports.value}`);
  });
  const root = document.createElement('div');
  const app = createApp(View).use(sockring(client));
  app.mount(root);
  expect(root.textContent).toBe('idle false unknown - 0');
  client.connect();
  client.receive('analysis:progress', { ...common, progress: 7 });
  client.receive('report:generated', {});
  await nextTick();
  expect(root.textContent).toBe('connected true processing 7 1');
  interviewId.value = '43';
  client.drop();
  await nextTick();
  expect(root.textContent).toBe('offline false unknown - 1');
  app.unmount();
  client.receive('report:generated', {});
});
