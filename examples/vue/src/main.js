import { createApp } from 'vue';
import App from './App.vue';
import '../../frontend/style.css';

createApp(App).mount('#app');
